"""A search over recipes and hyperparameters, as the API tells it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from shoal._runs import wait_until_finished
from shoal.connection import Connection
from shoal.errors import BadRequest, NotFound, TuningFailed, WaitTimedOut

FINAL = ("succeeded", "stopped", "failed")


class Tuning:
    """One search. The properties show what the API said last; `refresh` and `wait` ask again.

    Args:
        connection: The cloud that has it.
        document: The API's Tuning object.
    """

    def __init__(self, connection: Connection, document: dict[str, Any]) -> None:
        self._connection = connection
        self.document = document

    def __repr__(self) -> str:
        return f"Tuning({self.id!r}, status={self.status!r})"

    @property
    def id(self) -> str:
        """The search's id."""
        return str(self.document["tuning_id"])

    @property
    def dataset(self) -> str:
        """Name of the dataset."""
        return str(self.document["dataset"])

    @property
    def status(self) -> str:
        """running, stopping, stopped, succeeded or failed."""
        return str(self.document.get("status", ""))

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen, unless it is resumed."""
        return self.status in FINAL

    @property
    def trials(self) -> list[dict[str, Any]]:
        """Every trial: number, run_id, state, values, results by rung, curve, seconds, cost_usd, failure."""
        return list(self.document.get("trials") or [])

    @property
    def best(self) -> dict[str, Any] | None:
        """The best trial so far, by its score on the validation split."""
        number = self.document.get("best")
        return self.trials[number] if number is not None and self.trials else None

    @property
    def winner(self) -> dict[str, Any] | None:
        """{"trial", "run_id", "status", "metrics", "model"} of the trial that is trained to its end, else None."""
        return self.document.get("winner") or None

    @property
    def model(self) -> dict[str, Any] | None:
        """{"name", "version"} of the model that the winner became, else None."""
        return (self.winner or {}).get("model") or None

    @property
    def failure(self) -> dict[str, Any] | None:
        """{"stage", "error", "reason", "fix"} of a failed search, else None."""
        return self.document.get("failure") or None

    @property
    def seconds(self) -> float:
        """Wall-clock seconds since it was begun or resumed last."""
        return float(self.document.get("seconds") or 0)

    @property
    def cost_usd(self) -> float:
        """Estimated cost on AWS so far, in US dollars."""
        return float(self.document.get("cost_usd") or 0)

    def refresh(self) -> Tuning:
        """Ask the API for the newest state; returns the search itself."""
        self.document = self._connection.request("GET", self._path)
        return self

    def wait(self, timeout: float | None = None, on_progress: Callable[[Tuning], None] | None = None) -> Tuning:
        """Wait until the search has ended.

        Args:
            timeout: Seconds to wait; None waits as long as it takes.
            on_progress: Called with the search at once, then after every change.

        Returns:
            The search itself, succeeded or stopped.

        Raises:
            TuningFailed: It failed; the message has the reason and the fix.
            WaitTimedOut: The time is over; the search goes on.
            ConnectionFailed, ServiceFailed: The API was away for a minute.
        """
        wait_until_finished(self, self._connection, timeout, on_progress, _timed_out)
        if self.status == "failed":
            raise TuningFailed(self)
        return self

    def stop(self) -> Tuning:
        """Begin no further trial; those that train come to the ends of their rungs. `resume` goes on.

        Raises:
            BadRequest: The search has ended, or has found its winner.
        """
        self.document = self._connection.request("POST", f"{self._path}/stop")
        return self

    def resume(
        self,
        *,
        trials: int | None = None,
        minutes: float | None = None,
        dollars: float | None = None,
        lanes: int | None = None,
    ) -> Tuning:
        """Go on with a search that was stopped, failed or interrupted, or with a larger budget.

        Raises:
            BadRequest: It is under way, or has all that its budget allows.
        """
        asked = {"trials": trials, "minutes": minutes, "dollars": dollars, "lanes": lanes}
        self.document = _post(self._connection, f"{self._path}/resume", asked)
        return self

    def page(self) -> bytes:
        """The search as one HTML page: plot, table, winner."""
        return self._connection.fetch(f"{self._path}/report.html")

    @property
    def _path(self) -> str:
        return f"/tunings/{quote(self.id, safe='')}"


def start_tuning(connection: Connection, dataset: str, asked: Mapping[str, Any]) -> Tuning:
    """Begin a search; the same one again is the one that there is."""
    return Tuning(connection, _post(connection, f"/datasets/{quote(dataset, safe='')}/tunings", asked))


def find_tuning(connection: Connection, tuning_id: str) -> Tuning:
    """One search by its id. Raises `NotFound`."""
    return Tuning(connection, connection.request("GET", f"/tunings/{quote(tuning_id, safe='')}"))


def read_space(space: Mapping[str, Any] | str | Path | None) -> dict[str, Any] | None:
    """A search space, or that of a YAML file.

    Raises:
        BadRequest, NotFound: The file can't be read, or holds no fields.
    """
    if space is None or isinstance(space, Mapping):
        return None if space is None else {str(name): value for name, value in space.items()}
    path = Path(space)
    try:
        fields = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise NotFound(f"{path} can't be read: {error.strerror or error}.", "Name a file that exists.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadRequest(f"{path} isn't valid YAML.", "Write one `field: distribution` per line.") from error
    if not isinstance(fields, dict):
        raise BadRequest(f"{path} holds no fields.", "Write one `field: distribution` per line; see docs/tuning.md.")
    return fields


def _post(connection: Connection, path: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    body = {name: value for name, value in asked.items() if value is not None}
    try:
        data = json.dumps(body).encode()
    except TypeError as error:
        raise BadRequest(f"The search space isn't JSON: {error}.", "Use texts, numbers, lists and fields.") from error
    return connection.request("POST", path, body=data, content_type="application/json")


def _timed_out(tuning: Tuning, timeout: float) -> WaitTimedOut:
    return WaitTimedOut(tuning, timeout, "Search", "shoal tunings")
