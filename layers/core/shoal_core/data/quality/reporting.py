"""The end of a report: quality is added to what commit knows, and both its forms are written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from shoal_core.data.canonical import canonical_json
from shoal_core.data.config import DatasetConfig
from shoal_core.data.manifest import DatasetStatistics, Manifest, ShardFile
from shoal_core.data.quality.distributions import distributions_of
from shoal_core.data.quality.drift import compare_versions
from shoal_core.data.quality.findings import DriftReport
from shoal_core.data.quality.flags import find_flags
from shoal_core.data.quality.gallery import read_samples, show_samples
from shoal_core.data.quality.items import ItemFindings
from shoal_core.data.quality.outcomes import judge_expectations
from shoal_core.data.quality.page import render_page
from shoal_core.data.quality.quarantine import merge_quarantines
from shoal_core.data.report import Report
from shoal_core.data.spec import PreprocessingSpec
from shoal_core.errors import NotFound
from shoal_core.keys import DatasetKeys
from shoal_core.store import ObjectStore


def complete_report(
    artifacts: ObjectStore,
    report: Report,
    config: DatasetConfig,
    spec: PreprocessingSpec,
    findings: Sequence[ItemFindings],
    statistics: DatasetStatistics | None = None,
    train: Sequence[ShardFile] = (),
    outliers: Mapping[str, int] | None = None,
) -> Report:
    """Add what is known about quality, and write `report.json` and `report.html`.

    The same inputs give the same bytes, so a repeated call changes nothing. What an expectation came to is told whether
    or not it held; `outcomes.broken_expectations` says whether the run may go on.

    Args:
        artifacts: Where work items, shards and earlier versions are, and the report goes.
        report: What commit knows: counts, drops, columns, settings.
        config: What is expected.
        spec: What the shards' tensors mean.
        findings: Of all work items, in their order.
        statistics: Of the training split; None when no sample is left.
        train: The training split's shards, in order.
        outliers: Number column -> values beyond its bounds, where they were counted.
    """
    keys = DatasetKeys(report.dataset, report.version)
    tensors = read_samples(artifacts, train)
    totals: dict[str, int] = {}
    for counts in report.class_counts.values():
        for label, count in counts.items():
            totals[label] = totals.get(label, 0) + count
    if not totals and spec.target.classes:
        totals = dict.fromkeys(spec.target.classes, 0)
    whole = report.model_copy(
        update={
            "expectations": judge_expectations(artifacts, config.expect, findings, report.kept, totals),
            "quarantine": merge_quarantines([part.quarantine for part in findings]),
            "distributions": distributions_of(spec, statistics, outliers) if statistics else (),
            "flags": find_flags(spec, report.columns, tensors),
            "sources": report.drops.observed,
            "drops": report.drops.model_copy(update={"observed": {}, "files": {}, "encoded": {}}),
            "drift": _drift(artifacts, keys, spec, statistics),
        }
    )
    page = render_page(whole, show_samples(spec, tensors))
    artifacts.write(keys.report_page, page, "text/html; charset=utf-8")
    artifacts.write(keys.report, whole.encode(), "application/json")
    return whole


def choose_compared(artifacts: ObjectStore, keys: DatasetKeys, version: str | None) -> str | None:
    """Settle which version a report compares with: the first answer stays, whatever later attempts find.

    Args:
        artifacts: Where the answer is kept.
        keys: Keys of the version that is committed.
        version: The newest ready version before it, as the catalog knows now; None when it is the first.
    """
    artifacts.write_new(keys.compared, canonical_json({"version": version}), "application/json")
    found = json.loads(artifacts.read(keys.compared))["version"]
    return None if found is None else str(found)


def _drift(
    artifacts: ObjectStore, keys: DatasetKeys, spec: PreprocessingSpec, statistics: DatasetStatistics | None
) -> DriftReport | None:
    if statistics is None or not artifacts.exists(keys.compared):
        return None
    version = json.loads(artifacts.read(keys.compared))["version"]
    if version is None:
        return None
    try:
        before = Manifest.decode(artifacts.read(DatasetKeys(keys.dataset, str(version)).manifest))
    except NotFound:
        return None  # deleted since
    if (before.spec.kind, before.spec.target.task) != (spec.kind, spec.target.task):
        return None
    return compare_versions(before, spec, statistics)
