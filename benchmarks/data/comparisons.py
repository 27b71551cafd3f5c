"""What is compared with what, and the rows that come of it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.data import inputs
from benchmarks.data.measure import Contender, Measurement, interleaved, run
from benchmarks.results import Row, median_row

OURS = "benchmarks.data.ours"
PEERS = "benchmarks.data.peers"
SHOAL = "shoal"
WORKERS = (1, 2)


@dataclass(frozen=True)
class Comparison:
    """One input, Shoal, and what a user would have instead.

    Attributes:
        name: Shoal's job, and the rows' first word.
        unit: What a sample is called.
        source: Gives the input.
        peers: All of them do comparable work.
        goal: What the ratio to the fastest peer that counts must be.
        goal_workers: Numbers of workers that the goal is about.
        counted: Peers that the goal is about; all of them when empty.
        extra: Goals about single peers: the ratio to each.
        memory_mb: Most that Shoal may use with one worker; None asks nothing.
        default: Also measure what Shoal does when `dataset.yaml` says nothing.
    """

    name: str
    unit: str
    source: Callable[[], Path]
    peers: tuple[Contender, ...]
    goal: str
    counted: tuple[str, ...] = ()
    goal_workers: tuple[int, ...] = (1, 2)
    extra: Mapping[str, str] | None = None
    memory_mb: int | None = None
    default: bool = False


def _images(name: str, job: str, most_repeats: int = 99) -> Contender:
    return Contender(name, f"{PEERS}.images", job, most_repeats=most_repeats)


_TABLES = (Contender("polars", f"{PEERS}.tables", "polars"), Contender("pandas", f"{PEERS}.tables", "pandas"))
_WRITERS = (
    _images("litdata", "litdata", most_repeats=1),  # so far behind that more would only cost time
    _images("MDS", "mds"),
    _images("webdataset", "webdataset"),
    _images("webdataset without decoding", "webdataset-undecoded"),
)
COMPARISONS = {
    comparison.name: comparison
    for comparison in (
        Comparison(
            "images",
            "images/s",
            inputs.images,
            (*_WRITERS, _images("decoding alone", "decode")),
            ">= 1.5",
            counted=tuple(writer.name for writer in _WRITERS),
            extra={"decoding alone": ">= 0.9"},
            default=True,
        ),
        Comparison("flights", "rows/s", inputs.flights, _TABLES, ">= 1", counted=("polars",), memory_mb=512),
        Comparison("many-flights", "rows/s", inputs.many_flights, _TABLES, ">= 1", counted=("polars",), memory_mb=512),
        Comparison(
            "reviews",
            "texts/s",
            inputs.reviews,
            (Contender("datasets.map", f"{PEERS}.texts", "datasets"),),
            ">= 2",
            goal_workers=(2,),
            default=True,
        ),
    )
}


def compare(comparison: Comparison, scratch: Path, repeats: int) -> list[Row]:
    """Measure one comparison with each number of workers."""
    source = comparison.source()
    contenders = [Contender(SHOAL, OURS, comparison.name, ours=True), *comparison.peers]
    if comparison.default:
        contenders.append(Contender(_DEFAULT, OURS, f"{comparison.name}-default", ours=True, most_repeats=1))
    rows: list[Row] = []
    for workers in WORKERS:
        placed = [replace(contender, source=source) for contender in contenders]
        found = interleaved(placed, workers, repeats, scratch)
        title = f"{comparison.name}, {workers} worker{'s' * (workers > 1)}"
        rows += rate_rows(title, comparison.unit, found)
        counted = comparison.counted or tuple(peer.name for peer in comparison.peers)
        goal = comparison.goal if workers in comparison.goal_workers else ""
        rows.append(goal_row(title, found, fastest(found, counted), goal))
        rows += [goal_row(title, found, peer, goal) for peer, goal in (comparison.extra or {}).items()]
        rows += memory_rows(title, found, comparison.memory_mb if workers == 1 else None)
    return rows


def read_shards(scratch: Path, repeats: int) -> list[Row]:
    """Shards of the images to batches, by `shoal.load` and by the training itself.

    Each contender reads what it wrote, which is made here when it isn't there yet.
    """
    made = {
        contender.job: scratch / f"{contender.job}-1"
        for contender in (Contender(SHOAL, OURS, "images", ours=True), *_WRITERS[:3])
    }
    for job, out in made.items():
        if not out.exists():
            out.mkdir()
            module = OURS if job == "images" else f"{PEERS}.images"
            run(Contender(job, module, job, ours=job == "images", source=inputs.images()), out, 2)
    rows: list[Row] = []
    for kind in ("shuffled", "random"):
        peers = [
            Contender(name, f"{PEERS}.reading", f"{job}-{kind}", source=made[job])
            for name, job in (("litdata", "litdata"), ("MDS", "mds"), ("webdataset", "webdataset"))
            if (kind, job) != ("random", "webdataset")  # tar files are read from their beginning
        ]
        own = [Contender(SHOAL, OURS, kind, ours=True, source=made["images"])]
        if kind == "shuffled":
            own.append(Contender(_TRAINING, OURS, "trained", ours=True, source=made["images"]))
        found = interleaved([*own, *peers], 1, repeats, scratch)
        title = f"reading, {kind}"
        rows += rate_rows(title, "samples/s", found)
        best = fastest(found, [peer.name for peer in peers])
        rows.append(goal_row(title, found, best, ">= 1"))
        if kind == "shuffled":
            rows.append(goal_row(f"{title}, {_TRAINING}", {**found, SHOAL: found[_TRAINING]}, best, ">= 1"))
    return rows


_TRAINING = "shoal's training"
_DEFAULT = "shoal, as when nothing is said"
Found = Mapping[str, Sequence[Measurement]]


def rates(measurements: Sequence[Measurement]) -> list[float]:
    """Samples per second of each repetition."""
    return [measurement.told["samples"] / measurement.seconds for measurement in measurements]


def fastest(found: Found, names: Sequence[str]) -> str:
    """The contender with the greatest median rate."""
    return max(names, key=lambda name: statistics.median(rates(found[name])))


def rate_rows(title: str, unit: str, found: Found) -> list[Row]:
    """Shoal's rate beside each other's."""
    ours = rates(found[SHOAL])
    return [
        median_row(f"{title}: beside {name}", unit, ours, rates(measured))
        for name, measured in found.items()
        if name != SHOAL
    ]


def goal_row(title: str, found: Found, peer: str, goal: str) -> Row:
    """Shoal's rate over a peer's, repetition by repetition, since both share the machine's good and bad minutes."""
    ratios = [ours / theirs for ours, theirs in zip(rates(found[SHOAL]), rates(found[peer]), strict=False)]
    return median_row(f"{title}: times the rate of {peer}", "", ratios, goal=goal)


def memory_rows(title: str, found: Found, most: int | None) -> list[Row]:
    """Peak memory of all processes together."""

    def peaks(name: str) -> list[float]:
        return [measurement.peak_mb for measurement in found[name]]

    goal = "" if most is None else f"<= {most}"
    own = median_row(f"{title}: peak memory", "MB", peaks(SHOAL), goal=goal)
    return [own] + [
        median_row(f"{title}: peak memory beside {name}", "MB", peaks(SHOAL), peaks(name))
        for name in found
        if name != SHOAL
    ]
