"""The states of a search as the state machine calls them, with runs that come to what a test says."""

from __future__ import annotations

import itertools
from typing import Any

from shoal_core.aws.stages import StageBook
from shoal_core.aws.table import Table
from shoal_core.aws.tuning_catalog import TuningCatalog
from shoal_core.keys import RunKeys, TuningKeys
from shoal_core.training.history import RoundResult
from shoal_core.training.settings import TrainingSettings
from shoal_core.training.states import RoundRecord
from shoal_core.training.tuning.books import Book, RunEnd
from shoal_core.training.tuning.failures import failure_caught
from shoal_core.training.tuning.records import EndTask, LaneTask, Trial, TrialFailure, TuningRequest
from shoal_core.training.tuning.searching import Search
from tests.support.stores import MemoryStore
from tests.unit.training.datasets import DATASET, VERSION, blobs, commit, table_spec
from tests.unit.training.tuning.memory import MemoryRecords

SPACE = {"recipe": "mlp", "training.learning_rate": {"log_uniform": [1e-4, 1e-1]}}
ROUNDS = 9
_seeds = itertools.count()


class Cloud:
    """One search, with its records in memory."""

    def __init__(self, rounds: int = ROUNDS, **asked: Any) -> None:
        self.rounds = rounds
        self.store = MemoryStore()
        splits = {"train": blobs(64), "validation": blobs(30, seed=1), "test": blobs(30, seed=2)}
        commit(self.store, table_spec(4, 3), splits)
        # Another seed is another search, in the one catalog of all tests.
        plain = {"dataset": DATASET, "version": VERSION, "space": SPACE, "seed": next(_seeds)}
        self.request = TuningRequest(**{**plain, **asked})
        self.id = self.request.tuning_id
        self.store.write(TuningKeys(self.id).request, self.request.encode())
        self.catalog = self.records()
        assert self.catalog.begin(self.request)
        self.started: list[str] = []
        self.search = Search(self.store, self.catalog, lambda run_id, *_: self.started.append(run_id))
        self.search.plan(self.id)
        self.attempt = 1

    def records(self) -> Any:
        """Where the search is kept."""
        return MemoryRecords()

    def ask(self, lane: int, answer: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
        """The lane's next state, from the one before."""
        before = {"tuning_id": self.id, "attempt": self.attempt, "lane": lane, **(answer or {}), **changes}
        return self.search.advance(LaneTask.model_validate(before))

    def train(self, answer: dict[str, Any], score: float, milliseconds: int = 1000, falls: int = 0) -> dict[str, Any]:
        """What a job leaves behind: rounds up to the rung's end, the last ones worse, and what they used."""
        run_id, until = answer["run_id"], max(1, -(-self.rounds // answer["part"]))
        keys = RunKeys(run_id)
        settings = TrainingSettings(
            run_id=run_id, dataset=DATASET, version=VERSION, manifest_digest="", task="classification", recipe="mlp",
            optimizer="adam", learning_rate=0.01, batch_size=8, local_batch_size=8, epochs=1, rounds=self.rounds,
            steps_per_round=1, workers=1, seed=0, patience=0,
        )  # fmt: skip
        self.store.write(keys.settings, settings.encode())
        history = tuple(
            RoundResult(round=number, loss=1 / number, score=(score - abs(until - falls - number) / 1000, 0.0))
            for number in range(1, until + 1)
        )
        for number in range(1, until + 1):
            record = RoundRecord(
                run_id=run_id, round=number, rounds=self.rounds, loss=1 / number, validation={}, validation_split="",
                learning_rate=0.1, samples=1, steps=1, best_round=number, finished=number == self.rounds,
                history=history[:number], checkpoint_sha256="",
            )  # fmt: skip
            self.store.write_new(keys.round(number), record.encode())
        self.use(run_id, milliseconds)
        return answer

    def trials(self) -> tuple[Trial, ...]:
        return self.catalog.book(self.id).trials

    def conclude(self, **changes: Any) -> str:
        answer = self.search.conclude(EndTask(tuning_id=self.id, attempt=self.attempt, **changes))
        return str(answer["next"])

    def use(self, run_id: str, milliseconds: int) -> None:
        """A run's functions are billed for more time."""
        self.catalog.used[run_id] = self.catalog.used.get(run_id, 0.0) + milliseconds / 1000

    def end_run(self, number: int, status: str, reason: str = "") -> None:
        """What the training state machine makes of a trial's run."""
        failure = TrialFailure(stage="Train Shard", error="TrainingDiverged", reason=reason, fix="Lower it.")
        self.catalog.ended[f"{self.id}-{number:03d}"] = RunEnd(status, failure if status == "failed" else None)

    def lose(self, lane: int) -> None:
        """Advance Tuning has failed for good in a lane."""
        failure = failure_caught("Advance Tuning", {"Error": "Runtime.ExitError", "Cause": "it died"})
        self.catalog.held = Book(**{**vars(self.catalog.held), "lost": {lane: failure}})

    def reason(self) -> str:
        """Why the search gives no more jobs."""
        return str(self.catalog.reason)

    def play(self, lanes: int = 1, score: Any = lambda number: number / 100) -> list[dict[str, Any]]:
        """All jobs, lane after lane, until every lane has ended; the jobs in their order."""
        answers: dict[int, dict[str, Any]] = {lane: self.ask(lane) for lane in range(lanes)}
        done: list[dict[str, Any]] = []
        while any(answer["next"] != "end" for answer in answers.values()):
            for lane, answer in answers.items():
                if answer["next"] == "train":
                    done.append(self.train(answer, score(answer["job"]["trial"])))
                if answer["next"] != "end":
                    answers[lane] = self.ask(lane, answer)
        return done


class CatalogCloud(Cloud):
    """One search, with its records in the real catalog (in moto)."""

    def records(self) -> Any:
        return TuningCatalog()

    def use(self, run_id: str, milliseconds: int) -> None:
        stages = StageBook(Table(), f"RUN#{run_id}", "RUN")
        stages.started("Train Shard")
        stages.used("Train Shard", milliseconds, 1769)

    def run(self, number: int) -> dict[str, Any]:
        """The record of a trial's run."""
        found = Table().get(f"RUN#{self.id}-{number:03d}", "RUN")
        assert found is not None
        return found

    def end_run(self, number: int, status: str, reason: str = "") -> None:
        Table().update(
            f"RUN#{self.id}-{number:03d}",
            "RUN",
            "SET #status = :status, #error = :error, cause = :cause",
            {":status": status, ":error": "TrainingDiverged", ":cause": f"{reason} Fix: Lower it."},
            names={"#status": "status", "#error": "error"},
        )

    def lose(self, lane: int) -> None:
        text = '{"failure": {"Error": "Runtime.ExitError", "Cause": "it died"}, "lane": 1}'
        Table().update(f"TUNING#{self.id}", f"LANE#{self.attempt}#{lane}", "SET failure = :failure", {":failure": text})

    def reason(self) -> str:
        return str(next(item for item in self.catalog.items(self.id) if item["sk"] == "TUNING")["reason"])


def job_of(answer: dict[str, Any]) -> tuple[int, int]:
    """Trial and rung of a lane's job."""
    return answer["job"]["trial"], answer["job"]["rung"]
