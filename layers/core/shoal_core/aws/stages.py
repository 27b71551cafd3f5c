"""What each stage of a run or of a batch job used, and where it is now."""

from __future__ import annotations

from dataclasses import dataclass

from shoal_core.aws.clock import now
from shoal_core.aws.table import Table


@dataclass(frozen=True)
class StageBook:
    """The stages of one run or job, which is the item (`pk`, `sk`) with a `status` and a `stage`."""

    table: Table
    pk: str
    sk: str

    def started(self, stage: str) -> None:
        """Show where it is. What has ended keeps its last stage."""
        moment = now()
        self.table.update(
            self.pk,
            self.sk,
            "SET stage = :stage, updated_at = :now",
            {":stage": stage, ":now": moment, ":running": "running"},
            condition="#status = :running",
            names={"#status": "status"},
        )
        self.table.update(
            self.pk,
            f"STAGE#{stage}",
            "SET started_at = if_not_exists(started_at, :now), #name = :name",
            {":now": moment, ":name": stage},
            names={"#name": "name"},
        )

    def used(self, stage: str, milliseconds: int, memory_mb: int) -> None:
        """Add one invocation to what a stage used. A repeated invocation is paid for, so it counts again."""
        self.table.update(
            self.pk,
            f"STAGE#{stage}",
            "SET finished_at = :now ADD invocations :one, megabyte_ms :used",
            {":now": now(), ":one": 1, ":used": milliseconds * memory_mb},
        )
