"""One request, one version: which one answers it, what that took, and what happens when a canary fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from shoal_core.errors import ShoalError
from shoal_core.serving.inference import numbered
from shoal_core.serving.sessions import Choice, ModelCache, ServedModel

Answer = TypeVar("Answer")
NOBODY = -1
"""No version's number: a version that is asked for by its number is none that aliases chose."""


class Recorder(Protocol):
    """Where it is kept what versions did."""

    def answered(self, model: str, version: int, milliseconds: float, failed: bool) -> None:
        """A version answered a request, or failed by its own fault."""

    def canary_failed(self, model: str, version: int) -> None:
        """A canary failed: what an alarm watches."""


@dataclass(frozen=True)
class Traffic:
    """Answers requests with the versions that are due.

    Attributes:
        models: The models in memory.
        recorder: Is told of every request.
        clock: Seconds, for measuring.
    """

    models: ModelCache
    recorder: Recorder
    clock: Callable[[], float] = time.perf_counter

    def choice(self, name: str, key: str, version: str | None) -> Choice:
        """Which version answers: the one asked for, by number or alias, or the one whose turn it is.

        Raises:
            NotFound: No such model or version.
        """
        if version is None:
            return self.models.choose(name, key)
        number = numbered(self.models, name, version)
        return Choice(number, NOBODY)

    def answer(self, name: str, choice: Choice, run: Callable[[ServedModel], Answer]) -> Answer:
        """Answer a request.

        What a canary can't answer, production does, so a broken canary costs time and no request; it counts as the
        canary's failure unless production can't answer either.

        Args:
            name: The model.
            choice: Which version.
            run: Answers with a version; raises a `ShoalError` with a status below 500 for what the request itself has
                wrong.

        Raises:
            Exception: What `run` raises.
        """
        if not choice.canary:
            return self._measured(name, choice, run)
        started = self.clock()
        try:
            model = self.models.version(name, choice.version)
            started = self.clock()
            answer = run(model)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong in a canary, production answers
            spent = 1000 * (self.clock() - started)
            try:
                answer = self._measured(name, Choice(choice.production, choice.production), run)
            except ShoalError:
                if is_fault(error):
                    self._failed(name, choice, spent)
                raise
            self._failed(name, choice, spent)
            return answer
        self.recorder.answered(name, choice.version, 1000 * (self.clock() - started), failed=False)
        return answer

    def _measured(self, name: str, choice: Choice, run: Callable[[ServedModel], Answer]) -> Answer:
        serves = choice.version == choice.production
        model = self.models.production(name) if serves else self.models.version(name, choice.version)
        started, failed = self.clock(), False
        try:
            return run(model)
        except Exception as error:
            failed = is_fault(error)
            raise
        finally:
            self.recorder.answered(name, model.version, 1000 * (self.clock() - started), failed)

    def _failed(self, name: str, choice: Choice, milliseconds: float) -> None:
        self.recorder.answered(name, choice.version, milliseconds, failed=True)
        self.recorder.canary_failed(name, choice.version)


def is_fault(error: BaseException) -> bool:
    """Whether an error is the server's, not the request's."""
    return not isinstance(error, ShoalError) or error.status >= 500
