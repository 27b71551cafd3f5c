"""Rows of whole training epochs, ours beside PyTorch with its DataLoader, on one core."""

from __future__ import annotations

from pathlib import Path

from benchmarks.data.comparisons import SHOAL, fastest, goal_row, rate_rows
from benchmarks.data.measure import Contender, interleaved
from benchmarks.results import Row
from benchmarks.train.networks import NETS
from benchmarks.train.samples import SAMPLES, place_for

MODULE = "benchmarks.train.loading"
QUICK_SAMPLES, QUICK_NETS = 512, ("mlp", "cnn", "gru")
PEERS = {"PyTorch": "pytorch", "PyTorch with a loader process": "pytorch-loader"}


def throughput_rows(scratch: Path, repeats: int, *, quick: bool = False) -> list[Row]:
    """Samples per second, by network; the goal is about the faster way to use the DataLoader."""
    rows: list[Row] = []
    for name in QUICK_NETS if quick else NETS:
        net = NETS[name]
        place = place_for(name, scratch / "uploads", QUICK_SAMPLES if quick else SAMPLES)
        contenders = [
            Contender(title, MODULE, f"{job}-{name}", ours=True, source=place.root)
            for title, job in {SHOAL: "shoal", **PEERS}.items()
        ]
        found = interleaved(contenders, 1, repeats, scratch)
        varied = ", moved by a pixel" if net.sees == "image" else ""
        title = f"data to steps{varied}, {name}"
        rows += rate_rows(title, "samples/s", found)
        rows.append(goal_row(title, found, fastest(found, list(PEERS)), ">= 1"))
    return rows
