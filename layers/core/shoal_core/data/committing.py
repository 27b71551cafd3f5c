"""`commit_dataset`: merge what was packed into the report and, last, the manifest.

Only indexes are read: those of the work items for what was left out, and those of the final shards for samples, classes
and statistics, which merge exactly.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from shoal_core.data.assigning import read_pieces
from shoal_core.data.assignment import Assignment
from shoal_core.data.config_types import SPLITS, Split
from shoal_core.data.filling import count_outliers, summarise
from shoal_core.data.manifest import DatasetStatistics, Manifest, ShardFile
from shoal_core.data.packing import PackIndex
from shoal_core.data.plan import Plan
from shoal_core.data.quality.items import ItemFindings
from shoal_core.data.quality.outcomes import broken_expectations
from shoal_core.data.quality.reporting import complete_report
from shoal_core.data.report import DropTally, Report, describe_drops, file_reports
from shoal_core.data.statistics import StatisticsAccumulator
from shoal_core.errors import BadDataset, NotFound
from shoal_core.keys import DatasetKeys
from shoal_core.store import ObjectStore

_READERS = 8


def commit_dataset(artifacts: ObjectStore, dataset: str, version: str) -> Manifest:
    """Commit a dataset version whose shards are all packed.

    Args:
        artifacts: Where plan, pieces, assignment and shards are, and report and manifest go.
        dataset: Name of the dataset.
        version: Its version.

    Raises:
        NotFound: The plan, the assignment, a piece or a shard doesn't exist.
        BadDataset: No sample is left, or one class only, or an expectation is broken. The report is written all the
            same.
    """
    keys = DatasetKeys(dataset, version)
    if artifacts.exists(keys.manifest):
        return Manifest.decode(artifacts.read(keys.manifest))
    plan = Plan.decode(artifacts.read(keys.plan))
    outcome = _Outcome(artifacts, keys, plan)
    problem = outcome.problem()
    statistics = outcome.statistics() if problem is None else None
    report = complete_report(
        artifacts,
        outcome.report(),
        plan.config,
        plan.spec,
        outcome.findings,
        statistics,
        outcome.files("train") if statistics else (),
        outcome.outliers(statistics),
    )
    problem = problem or broken_expectations(report.expectations, plan.source_name)
    if problem is not None or statistics is None:
        raise problem or BadDataset(f"{plan.source_name!r} has no samples.", "Upload samples.")
    manifest = Manifest(
        dataset=dataset,
        version=version,
        spec=plan.spec,
        config=plan.config,
        inferred=plan.inferred,
        train=outcome.files("train"),
        validation=outcome.files("validation"),
        test=outcome.files("test"),
        statistics=statistics,
        class_counts=outcome.class_counts,
    )
    artifacts.write_new(keys.manifest, manifest.encode(), "application/json")
    return Manifest.decode(artifacts.read(keys.manifest))


class _Outcome:
    """What all work items and final shards came to."""

    def __init__(self, artifacts: ObjectStore, keys: DatasetKeys, plan: Plan) -> None:
        self._plan = plan
        pieces = read_pieces(artifacts, keys, len(plan.items))
        if not artifacts.exists(keys.assignment):
            raise NotFound(
                f"The samples of dataset {keys.dataset!r} aren't assigned yet.", "Run assign_samples for it."
            )
        self._assignment = Assignment.decode(artifacts.read(keys.assignment))
        self._packs = _read_packs(artifacts, keys, len(self._assignment.shards))
        self.findings: list[ItemFindings] = [piece.findings for piece in pieces]
        self._accumulated: StatisticsAccumulator | None = None
        self._left_out: dict[str, int] = {}
        tally = DropTally()
        tally.extend(plan.drops)
        for piece in pieces:
            tally.extend(piece.drops)
        for pack in self._packs:
            for code, count in pack.left_out.items():
                self._left_out[code] = self._left_out.get(code, 0) + count
            for drop in pack.examples:
                tally.show(drop.file, drop.place, drop.code, drop.reason, drop.fix)
        self._drops = tally.total()
        self._kept = sum(pack.samples for pack in self._packs)
        self.class_counts: dict[Split, dict[str, int]] = self._class_counts()

    def files(self, split: Split) -> tuple[ShardFile, ...]:
        """The shards of one split, in order."""
        return tuple(file for pack in self._packs if pack.split == split for file in pack.files)

    def problem(self) -> BadDataset | None:
        """Why nothing can be learnt from what is left, if so."""
        name, target = self._plan.source_name, self._plan.spec.target
        why = "; ".join(text for text in (describe_drops(self._drops), _describe(self._left_out)) if text)
        if not self._kept:
            fix = self._drops.examples[0].fix if self._drops.counts and self._drops.examples else ""
            return BadDataset(
                f"No sample of {name!r} can be used: {why or 'it holds none'}.",
                fix or "Upload readable, labelled samples.",
            )
        totals = {label: sum(counts[label] for counts in self.class_counts.values()) for label in target.classes}
        present = [label for label, count in totals.items() if count]
        if target.task == "classification" and len(present) < 2:
            also = f" (left out: {why})" if why else ""
            return BadDataset(
                f"{name!r} has usable samples of one class only: {present[0]!r}{also}.",
                "Add samples of another class.",
            )
        return None

    def statistics(self) -> DatasetStatistics:
        """The training split's, merged from its shards."""
        merged = StatisticsAccumulator(self._plan.spec)
        for pack in self._packs:
            if pack.statistics is not None:
                merged.merge(StatisticsAccumulator.from_state(self._plan.spec, pack.statistics))
        self._accumulated = merged
        return summarise(merged, self._plan.spec, self._plan.config)

    def outliers(self, statistics: DatasetStatistics | None) -> dict[str, int] | None:
        """Values beyond the bounds, by column."""
        if statistics is None or self._accumulated is None:
            return None
        return count_outliers(self._accumulated, self._plan.spec, statistics.bounds)

    def report(self) -> Report:
        """The report, still without what quality adds."""
        plan, drops = self._plan, self._drops
        counts = dict(sorted({**drops.counts, **self._left_out}.items()))
        samples: dict[Split, int] = {split: sum(file.samples for file in self.files(split)) for split in SPLITS}
        return Report(
            dataset=plan.dataset,
            version=plan.version,
            kind=plan.spec.data_kind,
            task=plan.spec.target.task,
            files=file_reports(plan.source_name, drops, counts, self._kept),
            kept=self._kept,
            dropped=sum(counts.values()),
            duplicates=self._left_out.get("duplicate", 0),
            drops=drops.model_copy(update={"counts": counts}),
            settings=_settings(plan),
            inferred=plan.inferred,
            columns=plan.columns,
            samples=samples,
            class_counts=self.class_counts,
            near_duplicates=self._assignment.near_duplicates,
            warnings=(*plan.warnings, *self._assignment.warnings, *self._untrained()),
        )

    def _class_counts(self) -> dict[Split, dict[str, int]]:
        classes = self._plan.spec.target.classes
        if not classes or not self._packs:
            return {}
        totals: dict[Split, list[int]] = {split: [0] * len(classes) for split in SPLITS}
        for pack in self._packs:
            totals[pack.split] = [have + more for have, more in zip(totals[pack.split], pack.classes, strict=True)]
        return {split: dict(zip(classes, counts, strict=True)) for split, counts in totals.items()}

    def _untrained(self) -> list[str]:
        """Classes that occur, yet in no training sample: possible in large sets by group or time alone."""
        train = self.class_counts.get("train", {})
        held = [label for label in train if not train[label] and any(by[label] for by in self.class_counts.values())]
        return [f"Class {label!r} has no training sample." for label in held]


def _read_packs(artifacts: ObjectStore, keys: DatasetKeys, shards: int) -> list[PackIndex]:
    def read(shard: int) -> PackIndex:
        try:
            return PackIndex.decode(artifacts.read(keys.pack_index(shard)))
        except NotFound as error:
            raise NotFound(
                f"Shard {shard} of dataset {keys.dataset!r} isn't packed yet.", "Run pack_shard for it."
            ) from error

    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(read, range(shards)))


def _describe(counts: dict[str, int]) -> str:
    return "; ".join(f"{count:,} {code.replace('_', ' ')}" for code, count in sorted(counts.items()))


def _settings(plan: Plan) -> dict[str, str | int | float | list[int] | list[str] | None]:
    settings: dict[str, str | int | float | list[int] | list[str] | None] = {
        "task": plan.spec.target.task,
        "target": plan.spec.target.source,
        "seed": plan.config.seed,
        "validation": plan.config.split.validation,
        "test": plan.config.split.test,
    }
    for name in ("group", "time"):
        if (column := getattr(plan.config.split, name)) is not None:
            settings[name] = column
    if plan.spec.image is not None:
        settings["image_size"] = [plan.spec.image.height, plan.spec.image.width]
        settings["channels"] = plan.spec.image.channels
    if plan.spec.table is not None:
        settings["columns"] = list(plan.spec.table.names)
    if plan.table is not None and plan.table.kind == "csv":
        settings["delimiter"] = plan.table.delimiter
        settings["encoding"] = plan.table.encoding
    return settings
