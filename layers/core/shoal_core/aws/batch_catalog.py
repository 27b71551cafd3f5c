"""The catalog of batch jobs.

```
pk                    sk             what
BATCH#<model>/<job>   BATCH          one job: status, stage, pieces done, records, outcome
                      STAGE#<name>   what a stage used: invocations, memory-time
                      UPLOADS        numbers given to uploads under this name; a note while files wait
                      UPLOAD#<id>    the job of one upload: the guard against starting it twice
```
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from shoal_core.aws.clock import now
from shoal_core.aws.stages import StageBook
from shoal_core.aws.table import Table, document, update_arguments
from shoal_core.errors import NotFound, Unavailable

if TYPE_CHECKING:
    from shoal_core.registry.records import Source

_ATTEMPTS = 20
_STATUS = {"#status": "status"}


class BatchCatalog:
    """Reads and writes the catalog of jobs. Raises `NotFound` and `Unavailable`."""

    def __init__(self, table: Table | None = None) -> None:
        self._table = table or Table()

    def book(self, model: str, job: str) -> StageBook:
        """The stages of a job."""
        return StageBook(self._table, _pk(model, job), "BATCH")

    def reserve(self, model: str, job: str, identity: str, source: Sequence[Source]) -> tuple[str, bool]:
        """The job of an upload, and whether it is new: the name asked for, or with a number when that is taken."""
        pk = _pk(model, job)
        for _ in range(_ATTEMPTS):
            guard = self._table.get(pk, f"UPLOAD#{identity}")
            if guard:
                return str(guard["job"]), False
            counter = self._table.get(pk, "UPLOADS") or {}
            before = int(counter.get("reserved", 0))
            number = before + 1
            # A name that somebody has given a job of their own is skipped.
            while self._table.get(_pk(model, name := _numbered(job, number)), "BATCH"):
                number += 1
            step = update_arguments(
                pk,
                "UPLOADS",
                "SET reserved = :number, #name = :name REMOVE kind, sort, note",
                {":number": number, ":before": before, ":name": f"{model}/{job}"},
                condition="attribute_not_exists(reserved) OR reserved = :before",
                names={"#name": "name"},
            )
            items = [{"pk": pk, "sk": f"UPLOAD#{identity}", "job": name}, _new(model, name, source)]
            if self._table.put_all_new(items, step):
                return name, True
        raise Unavailable(f"Job {model}/{job}: too many uploads at once.", "Nothing to do: it is retried.")

    def waiting(self, model: str, job: str, note: str) -> None:
        """Note that files wait, unless a job of that name has begun."""
        self._table.update(
            _pk(model, job),
            "UPLOADS",
            "SET note = :note, kind = :kind, sort = if_not_exists(sort, :sort), #name = :name, "
            "created_at = if_not_exists(created_at, :now)",
            {":note": note, ":kind": "BATCH", ":sort": f"{now()}#{job}", ":name": f"{model}/{job}", ":now": now()},
            condition="attribute_not_exists(reserved)",
            names={"#name": "name"},
        )

    def refuse(self, model: str, job: str, source: Sequence[Source], error: str, message: str) -> None:
        """Record an upload that no job can be made of, as a failed job."""
        failure = {"status": "failed", "stage": "Ingest Upload", "error": error, "cause": message, "finished_at": now()}
        self._table.put_new({**_new(model, job, source), **failure})

    def planned(self, model: str, job: str, version: int, pieces: int, warnings: Sequence[str]) -> None:
        """Record the version that answers, and into how many pieces the job was cut."""
        self._table.update(
            _pk(model, job),
            "BATCH",
            "SET version = :version, pieces_total = :pieces, warnings = :warnings",
            {":version": version, ":pieces": pieces, ":warnings": document(list(warnings))},
        )

    def predicted(self, model: str, job: str, piece: int, records: int, errors: int) -> None:
        """Record a finished piece; the same one twice counts once."""
        self._table.update(
            _pk(model, job),
            "BATCH",
            "ADD pieces_done :pieces, records :records, errors :errors",
            {":pieces": {piece}, ":piece": piece, ":records": records, ":errors": errors},
            condition="attribute_not_exists(pieces_done) OR NOT contains(pieces_done, :piece)",
        )

    def finished(self, model: str, job: str, summary: Mapping[str, Any]) -> None:
        """End a job: `records` and `errors` in all, `codes`, `shown` errors, and `output`."""
        self._table.update(
            _pk(model, job),
            "BATCH",
            "SET #status = :status, records = :records, errors = :errors, codes = :codes, shown = :shown, "
            "#output = :output, finished_at = if_not_exists(finished_at, :now), updated_at = :now",
            {
                ":status": "succeeded",
                ":records": summary["records"],
                ":errors": summary["errors"],
                ":codes": document(summary["codes"]),
                ":shown": document(summary["shown"]),
                ":output": document(summary["output"]),
                ":now": now(),
            },
            names={**_STATUS, "#output": "output"},
        )

    def items(self, model: str, job: str) -> list[dict[str, Any]]:
        """A job's record and stages. Raises `NotFound`."""
        items = list(self._table.query(_pk(model, job)))
        if not any(item["sk"] == "BATCH" or (item["sk"] == "UPLOADS" and "note" in item) for item in items):
            raise NotFound(f"Job {model}/{job} doesn't exist.", "See GET /batches for those that do.")
        return items

    def newest(self, model: str | None = None, limit: int = 100) -> list[tuple[str, str]]:
        """Model and job of the newest jobs, the newest first."""
        found: list[tuple[str, str]] = []
        for item in self._table.newest("BATCH"):
            name, _, job = str(item["pk"]).removeprefix("BATCH#").partition("/")
            if model in (None, name):
                found.append((name, job))
            if len(found) == limit:
                break
        return found


def _pk(model: str, job: str) -> str:
    return f"BATCH#{model}/{job}"


def _numbered(job: str, number: int) -> str:
    return job if number == 1 else f"{job}-{number}"


def _new(model: str, job: str, source: Sequence[Source]) -> dict[str, Any]:
    moment = now()
    return {
        "pk": _pk(model, job),
        "sk": "BATCH",
        "kind": "BATCH",
        "sort": f"{moment}#{job}",
        "model": model,
        "job": job,
        "status": "running",
        "stage": "Plan Batch",
        "created_at": moment,
        "updated_at": moment,
        "source": document([entry.model_dump() for entry in source]),
    }
