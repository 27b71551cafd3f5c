"""How far one execution of the state machine carries a run, and the name of the next one.

A Standard execution may have 25,000 history events
(https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html). Rounds are counted as they end, with what
was retried in them; a run whose execution has come to `EVENTS` goes on in a new one. The rest is room for the round
that crosses that line and for the end of the run, both with every retry that there may be.
"""

from __future__ import annotations

import hashlib
import json

from shoal_core.frozen import Frozen

MAX_EVENTS = 25_000
EVENTS = 14_000
"""After so many events a run goes on in a new execution."""
STARTED = 1_000
"""Events before the first round, with every retry; of a new execution fewer."""
ITEM_EVENTS = 7
"""Of an item of a Map: the iteration's three, the task's four."""
ROUND_EVENTS = 11
"""Of a round beside its workers: the Map's four, the merge's five, the choice's two."""
RETRY_EVENTS = 3
MOST_RETRIES = 44
"""Of one task: 30 where it is throttled, 8 where a round outlasts its function, 4 where a service doesn't answer, 2
where a worker dies."""
# https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html
_LONGEST_NAME = 80
_CUT = 60


class NextExecution(Frozen):
    """What `Continue Anew` starts: an execution of the same state machine, by name, with its input as JSON text."""

    name: str
    input: str


class Execution(Frozen):
    """What goes through the states of one execution beside the run's own.

    Attributes:
        execution: Its number: 1 for the first of the run.
        events: History events so far, about.
        continue_anew: Whether the run goes on in `next_execution`.
        next_execution: None while it goes on here.
    """

    execution: int = 1
    events: int = STARTED
    continue_anew: bool = False
    next_execution: NextExecution | None = None


def after_round(
    before: Execution, run: tuple[str, str, str], workers: int, retries: int, limit: int = EVENTS
) -> Execution:
    """What an execution has come to with one more round.

    Args:
        before: What it had come to.
        run: (run, dataset, version).
        workers: Workers of the round.
        retries: What was retried of their tasks, all together.
        limit: Events after which the run goes on in a new execution.
    """
    events = before.events + ITEM_EVENTS * workers + ROUND_EVENTS + RETRY_EVENTS * retries
    if events < limit:
        return Execution(execution=before.execution, events=events)
    number = before.execution + 1
    following = NextExecution(
        name=execution_name(run[0], number), input=json.dumps(execution_event(*run, number), sort_keys=True)
    )
    return Execution(execution=before.execution, events=events, continue_anew=True, next_execution=following)


def rounds_in_execution(workers: int, limit: int = EVENTS) -> int:
    """Rounds after which a run of so many workers goes on in a new execution, where nothing is retried."""
    return -(-(limit - STARTED) // (ITEM_EVENTS * workers + ROUND_EVENTS))


def execution_name(run_id: str, number: int = 1) -> str:
    """The name of a run's execution: its id, and from the second on `-cN`; a long id is cut and told by its hash."""
    suffix = "" if number == 1 else f"-c{number}"
    if len(run_id + suffix) <= _LONGEST_NAME:
        return run_id + suffix
    return f"{run_id[:_CUT]}-{hashlib.sha256(run_id.encode()).hexdigest()[:12]}{suffix}"


def execution_event(run_id: str, dataset: str, version: str, number: int | None = None) -> dict[str, object]:
    """The input of a run's execution.

    Args:
        run_id: The run.
        dataset: Its dataset.
        version: Its version.
        number: The execution's, where the version is committed, so that it begins with training; None where the data
            has to be prepared.
    """
    event: dict[str, object] = {"run_id": run_id, "dataset": dataset, "version": version}
    if number is not None:
        event |= {"committed": True, "execution": number}
    return event
