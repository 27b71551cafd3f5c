"""Imports of models in the catalog's table: each is a run without a dataset, and a refused one is told at its model.

```
pk             sk              what
RUN#<id>       RUN             the import: status, source, failure
MODEL#<name>   IMPORT#<id>     a refused import, for whoever asks for the model
```
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from shoal_core.aws.clock import now
from shoal_core.aws.model_catalog import ModelCatalog
from shoal_core.aws.table import document

if TYPE_CHECKING:
    from shoal_core.registry.records import Source

STAGE = "Import Model"


class Imports(ModelCatalog):
    """Records imports and registers their versions. Raises `Unavailable`."""

    def begin_import(self, run_id: str, model: str, source: Sequence[Source]) -> int:
        """Record an import as a run, and that it is tried.

        Returns:
            How many times it has been tried, this one included: more than 1 is the same event again, a repeated one or
            one whose function died. 0 when it has ended, so that nothing is to do.
        """
        moment = now()
        self._table.put_new(
            {
                "pk": f"RUN#{run_id}",
                "sk": "RUN",
                "kind": "RUN",
                "sort": f"{moment}#{run_id}",
                "run_id": run_id,
                "dataset": "",
                "version": "",
                "status": "running",
                "stage": STAGE,
                "created_at": moment,
                "updated_at": moment,
                "source": document([entry.model_dump() for entry in source]),
                "settings": document({"model": model}),
            }
        )
        self._table.update(
            f"RUN#{run_id}",
            f"STAGE#{STAGE}",
            "SET started_at = if_not_exists(started_at, :now), #name = :name",
            {":now": moment, ":name": STAGE},
            names={"#name": "name"},
        )
        going_on = self._table.update(
            f"RUN#{run_id}",
            "RUN",
            "ADD tries :one",
            {":one": 1, ":running": "running"},
            condition="#status = :running",
            names={"#status": "status"},
        )
        return int((self._table.get(f"RUN#{run_id}", "RUN") or {})["tries"]) if going_on else 0

    def import_failed(self, run_id: str, model: str, error: str, message: str) -> None:
        """End an import with the reason; one that has ended keeps its end."""
        moment = now()
        self._table.update(
            f"RUN#{run_id}",
            "RUN",
            "SET #status = :failed, #error = :error, cause = :cause, finished_at = :now, updated_at = :now",
            {":failed": "failed", ":error": error, ":cause": message, ":now": moment, ":running": "running"},
            condition="#status = :running",
            names={"#status": "status", "#error": "error"},
        )
        if model:
            told = {"run_id": run_id, "at": moment, "error": error, "message": message}
            self._table.put_new({"pk": f"MODEL#{model}", "sk": f"IMPORT#{run_id}", "refused": document(told)})
