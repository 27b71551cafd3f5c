"""The very samples of each split, for references: what the shards hold, and the texts and rows behind them."""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.data.driving import Place
from benchmarks.data.inputs import PEERS_PYTHON, ROOT
from benchmarks.quality.backbone import features_of
from shoal_core.data.config_types import SPLITS
from shoal_core.data.manifest import Manifest
from shoal_core.training.batches import load_shard

ARRAYS, TEXTS, ASKED = "{split}.npz", "{split}.json", "asked.json"
_ROWS = 4096


def hand_over(place: Place, source: Path, folder: Path, asked: dict[str, Any], *, features: bool = False) -> None:
    """Write each split's arrays (`train.npz` and so on), texts where it has some (`train.json`), `asked.json`."""
    manifest = place.manifest()
    texts = _texts(manifest, source)
    for split in SPLITS:
        shards = [load_shard(place.artifacts, shard) for shard in manifest.shards(split)]
        arrays = {name: np.concatenate([shard[name] for shard in shards]) for name in shards[0]} if shards else {}
        if features and arrays:
            arrays = {"features": features_of(place, arrays["image"]), "target": arrays["target"]}
        np.savez(folder / ARRAYS.format(split=split), **arrays)  # type: ignore[arg-type]
        if texts and arrays:
            found = [texts[_digest(row)] for row in arrays["tokens"]]
            (folder / TEXTS.format(split=split)).write_text(json.dumps(found))
    (folder / ASKED).write_text(json.dumps(asked))


def score_of(reference: str, folder: Path) -> dict[str, Any]:
    """Train a reference on what was handed over, in the peers' environment; what it tells, `score` among it."""
    command = [str(PEERS_PYTHON), "-m", f"benchmarks.quality.references.{reference}", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"The reference {reference} failed: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _texts(manifest: Manifest, source: Path) -> dict[bytes, str]:
    """The texts of a table's rows, by the hash of what they are encoded as; shards hold nothing else of them."""
    table = manifest.spec.table
    if table is None or not table.texts:
        return {}
    names = [text.name for text in table.texts]
    with source.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found: dict[bytes, str] = {}
    for start in range(0, len(rows), _ROWS):
        part = [{name: row[name] for name in names} for row in rows[start : start + _ROWS]]
        for row, tokens in zip(part, manifest.spec.encode_rows(part)["tokens"], strict=True):
            found.setdefault(_digest(tokens), " ".join(row.values()))
    return found


def _digest(tokens: NDArray[Any]) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(tokens)).digest()
