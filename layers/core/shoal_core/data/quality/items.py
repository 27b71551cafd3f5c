"""What one work item finds out about quality, besides its samples: checked rows, bad samples kept."""

from __future__ import annotations

from shoal_core.data.config import DatasetConfig
from shoal_core.data.quality.expectations import Checks, CheckTally
from shoal_core.data.quality.findings import QuarantineReport
from shoal_core.data.quality.quarantine import Quarantine, quarantine_planned
from shoal_core.data.quality.uniqueness import HashFile
from shoal_core.data.report import Drops, DropTally
from shoal_core.frozen import Frozen
from shoal_core.keys import DatasetKeys
from shoal_core.store import ObjectStore


class ItemFindings(Frozen):
    """One work item's findings, as its index holds them. They merge exactly: see `outcomes`."""

    checks: Checks = Checks()
    hashes: tuple[HashFile, ...] = ()
    quarantine: QuarantineReport = QuarantineReport()


class ItemQuality:
    """Collects a work item's findings; `drops` is the tally that its encoder fills.

    Args:
        keys: Keys of the dataset version.
        item: Number of the work item.
        config: What is expected.
    """

    def __init__(self, keys: DatasetKeys, item: int, config: DatasetConfig) -> None:
        self._keys = keys
        self._item = item
        self._quarantine = Quarantine(keys, item)
        self._checks = CheckTally(config.expect)
        self.drops = DropTally(self._quarantine, self._checks if self._checks.columns else None)

    def write(self, artifacts: ObjectStore, planned: Drops) -> ItemFindings:
        """Write what doesn't fit into the index; `planned` is what planning refused, listed with the first item."""
        kept = self._quarantine.write(artifacts)
        if self._item == 0:
            more = quarantine_planned(artifacts, self._keys, planned)
            kept = QuarantineReport(
                samples=kept.samples + more.samples, bytes=kept.bytes, left_out=kept.left_out + more.left_out
            )
        hashes = tuple(
            table.write(artifacts, self._keys.value_hashes(self._item, clause), clause)
            for clause, table in sorted(self._checks.hashes.items())
        )
        return ItemFindings(checks=self._checks.total(), hashes=hashes, quarantine=kept)
