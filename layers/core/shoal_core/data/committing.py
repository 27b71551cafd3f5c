"""`commit_dataset`: dedupe over the whole set, final shards of even size, the report, and the manifest last.

Samples are ordered by their split position, a hash of seed and content: shuffled, yet the same however the set was cut.
Memory: one shard, and about 60 bytes per sample.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.config_types import SPLITS, Split
from shoal_core.data.ledger import Duplicates, Entry, Ledger, drop_duplicates, guard_small_sets, read_ledger
from shoal_core.data.manifest import Manifest, ShardFile
from shoal_core.data.pieces import FEATURE_HASH, POSITION, ROW_HASH, PieceIndex
from shoal_core.data.plan import Plan
from shoal_core.data.report import Drops, DropTally, FileReport, Report, describe_drops
from shoal_core.data.shards import Tensors, encode_shard, read_rows
from shoal_core.data.statistics import StatisticsAccumulator
from shoal_core.errors import BadDataset, NotFound
from shoal_core.keys import DatasetKeys
from shoal_core.store import ObjectStore

SHARD_BYTES = 32 * 1024**2
# Without a number of workers asked for, a training set is cut so that up to four find a shard each.
DEFAULT_TRAIN_SHARDS = 4
MIN_SHARD_SAMPLES = 64
_BOOKKEEPING = (FEATURE_HASH, ROW_HASH, POSITION)


def commit_dataset(artifacts: ObjectStore, dataset: str, version: str) -> Manifest:
    """Commit a dataset version whose work items are all written.

    Args:
        artifacts: Where the plan and the pieces are, and the shards, report and manifest go.
        dataset: Name of the dataset.
        version: Its version.

    Raises:
        NotFound: The plan or a piece doesn't exist.
        BadDataset: No sample is left, or one class only. The report is written all the same.
    """
    keys = DatasetKeys(dataset, version)
    if artifacts.exists(keys.manifest):
        return Manifest.decode(artifacts.read(keys.manifest))
    plan = Plan.decode(artifacts.read(keys.plan))
    pieces = [_read_piece(artifacts, keys, item) for item in range(len(plan.items))]
    tally = DropTally()
    tally.extend(plan.drops)
    for piece in pieces:
        tally.extend(piece.drops)
    ledger = read_ledger(artifacts, pieces)
    found = Duplicates({})
    warnings = list(plan.warnings)
    if ledger is not None:
        found = drop_duplicates(ledger, labels_conflict=plan.spec.kind == "image")
    duplicates = found.counts
    problem = _problem(plan, ledger, tally.total(), duplicates)
    _name_duplicates(artifacts, keys, plan, found, tally)
    if problem or ledger is None:
        _write_report(artifacts, keys, plan, ledger, tally.total(), duplicates, warnings)
        raise problem or BadDataset(f"{plan.source_name!r} has no samples.", "Upload samples.")
    warnings += guard_small_sets(ledger, plan.spec.target.classes, plan.config.split)
    statistics = StatisticsAccumulator(plan.spec)
    shards = {
        split: _write_split(artifacts, keys, plan, ledger, index, statistics) for index, split in enumerate(SPLITS)
    }
    _write_report(artifacts, keys, plan, ledger, tally.total(), duplicates, warnings)
    manifest = Manifest(
        dataset=dataset,
        version=version,
        spec=plan.spec,
        config=plan.config,
        inferred=plan.inferred,
        train=shards["train"],
        validation=shards["validation"],
        test=shards["test"],
        statistics=statistics.summary(),
        class_counts=_class_counts(plan, ledger),
    )
    artifacts.write_new(keys.manifest, manifest.encode(), "application/json")
    return Manifest.decode(artifacts.read(keys.manifest))


def _read_piece(artifacts: ObjectStore, keys: DatasetKeys, item: int) -> PieceIndex:
    key = keys.piece_index(item)
    if not artifacts.exists(key):
        raise NotFound(f"Work item {item} of dataset {keys.dataset!r} isn't written yet.", "Run write_shard for it.")
    return PieceIndex.decode(artifacts.read(key))


def _name_duplicates(
    artifacts: ObjectStore, keys: DatasetKeys, plan: Plan, duplicates: Duplicates, tally: DropTally
) -> None:
    """Show the first of what dedupe left out by their places in the source; they are counted apart."""
    known: dict[tuple[int, int], list[str]] = {}

    def place(entry: Entry) -> str:
        piece = (entry.origin, entry.item)
        if piece not in known:
            known[piece] = json.loads(artifacts.read(keys.places(SPLITS[entry.origin], entry.item)))
        return known[piece][entry.row]

    for left in duplicates.examples:
        where = place(left.entry)
        if left.twin is None:
            reason, fix = f"{where!r} lies in two classes with equal content.", "Keep it in the right class only."
        else:
            reason, fix = f"{where!r} equals {place(left.twin)!r}, which is kept.", ""
        tally.show(plan.source_name, where, left.code, reason, fix)


def _problem(plan: Plan, ledger: Ledger | None, drops: Drops, duplicates: dict[str, int]) -> BadDataset | None:
    """Why nothing can be learnt from what is left, if so."""
    if ledger is None or not len(ledger):
        why = [text for text in (describe_drops(drops), _describe(duplicates)) if text]
        reason = "; ".join(why) or "it holds none"
        fix = drops.examples[0].fix if drops.examples else ""
        return BadDataset(
            f"No sample of {plan.source_name!r} can be used: {reason}.", fix or "Upload readable, labelled samples."
        )
    target = plan.spec.target
    if target.task == "classification" and len(np.unique(ledger.target)) < 2:
        only = target.classes[int(ledger.target[0])]
        left = "; ".join(text for text in (describe_drops(drops), _describe(duplicates)) if text)
        also = f" (left out: {left})" if left else ""
        return BadDataset(
            f"{plan.source_name!r} has usable samples of one class only: {only!r}{also}.",
            "Add samples of another class.",
        )
    return None


def _describe(counts: dict[str, int]) -> str:
    return "; ".join(f"{count:,} {code.replace('_', ' ')}" for code, count in sorted(counts.items()))


def _shard_count(plan: Plan, samples: int, sample_bytes: int, split: Split) -> int:
    by_bytes = math.ceil(samples * sample_bytes / SHARD_BYTES)
    if split != "train":
        return max(1, by_bytes)
    wanted = plan.config.workers or min(DEFAULT_TRAIN_SHARDS, samples // MIN_SHARD_SAMPLES)
    return min(samples, max(1, by_bytes, wanted))


def _sample_bytes(plan: Plan) -> int:
    table = plan.spec.table
    if table is not None:
        return 4 * len(table.numbers) + 8 * len(table.categories) + 8
    return math.prod(plan.spec.tensor_shapes()["image"]) + 8


def _write_split(
    artifacts: ObjectStore, keys: DatasetKeys, plan: Plan, ledger: Ledger, side: int, statistics: StatisticsAccumulator
) -> tuple[ShardFile, ...]:
    """Write one split's shards in order; the training split's samples are counted in `statistics`."""
    split = SPLITS[side]
    entries = np.flatnonzero(ledger.side == side)
    if not entries.size:
        return ()
    count = _shard_count(plan, len(entries), _sample_bytes(plan), split)
    files: list[ShardFile] = []
    for index, chosen in enumerate(np.array_split(entries, count)):
        tensors = _gather(artifacts, keys, ledger, chosen)
        if split == "train":
            statistics.add(tensors)
        data = encode_shard(tensors)
        key = keys.shard(split, index)
        artifacts.write(key, data)
        digest = hashlib.sha256(data).hexdigest()
        files.append(ShardFile(key=key, samples=len(chosen), bytes=len(data), sha256=digest))
    return tuple(files)


def _gather(artifacts: ObjectStore, keys: DatasetKeys, ledger: Ledger, chosen: NDArray[np.int64]) -> Tensors:
    """Read the chosen entries from their pieces, in order. A piece's part of a shard is one range of rows."""
    result: Tensors = {}
    sources = ledger.piece[chosen].astype(np.int64) * len(SPLITS) + ledger.origin[chosen]
    for source in np.unique(sources).tolist():
        places = np.flatnonzero(sources == source)
        rows = ledger.place[chosen[places]]
        start, stop = int(rows.min()), int(rows.max()) + 1
        item, origin = divmod(source, len(SPLITS))
        key = keys.piece(SPLITS[origin], item)
        with artifacts.open(key) as stream:
            part = read_rows(stream, start, stop, name=key)
        for name in part.keys() - set(_BOOKKEEPING):
            array = part[name]
            if name not in result:
                result[name] = np.empty((len(chosen), *array.shape[1:]), array.dtype)
            result[name][places] = array[rows - start]
    return result


def _class_counts(plan: Plan, ledger: Ledger | None) -> dict[Split, dict[str, int]]:
    classes = plan.spec.target.classes
    if ledger is None or not classes:
        return {}
    return {
        split: dict(
            zip(classes, np.bincount(ledger.target[ledger.side == side], minlength=len(classes)).tolist(), strict=True)
        )
        for side, split in enumerate(SPLITS)
    }


def _write_report(
    artifacts: ObjectStore,
    keys: DatasetKeys,
    plan: Plan,
    ledger: Ledger | None,
    drops: Drops,
    duplicates: dict[str, int],
    warnings: Sequence[str],
) -> None:
    counts = dict(sorted({**drops.counts, **duplicates}.items()))
    kept = len(ledger) if ledger else 0
    samples: dict[Split, int] = {
        split: int((ledger.side == side).sum()) if ledger else 0 for side, split in enumerate(SPLITS)
    }
    report = Report(
        dataset=plan.dataset,
        version=plan.version,
        kind=plan.spec.kind,
        task=plan.spec.target.task,
        files=(FileReport(file=plan.source_name, kept=kept, dropped=counts, ignored=drops.ignored),),
        kept=kept,
        dropped=sum(counts.values()),
        duplicates=duplicates.get("duplicate", 0),
        drops=drops.model_copy(update={"counts": counts}),
        settings=_settings(plan),
        inferred=plan.inferred,
        columns=plan.columns,
        samples=samples,
        class_counts=_class_counts(plan, ledger),
        warnings=tuple(warnings),
    )
    artifacts.write(keys.report, report.encode(), "application/json")


def _settings(plan: Plan) -> dict[str, str | int | float | list[int] | list[str] | None]:
    settings: dict[str, str | int | float | list[int] | list[str] | None] = {
        "task": plan.spec.target.task,
        "target": plan.spec.target.column or "folder",
        "seed": plan.config.seed,
        "validation": plan.config.split.validation,
        "test": plan.config.split.test,
    }
    if plan.spec.image is not None:
        settings["image_size"] = [plan.spec.image.height, plan.spec.image.width]
        settings["channels"] = plan.spec.image.channels
    if plan.spec.table is not None:
        settings["columns"] = list(plan.spec.table.names)
    if plan.table is not None and plan.table.kind == "csv":
        settings["delimiter"] = plan.table.delimiter
        settings["encoding"] = plan.table.encoding
    return settings
