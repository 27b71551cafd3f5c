"""What asks for a source to be read, and when: the input of the source state machine."""

from __future__ import annotations

import hashlib
from typing import Protocol

from pydantic import ConfigDict

from shoal_core.frozen import Frozen
from shoal_core.registry.audit import Caller
from shoal_core.registry.beginning import EVENTS
from shoal_core.registry.file_sets import VERSION_LENGTH
from shoal_core.registry.records import Source


class SourceTask(Frozen):
    """One reading of a source: the input of the state machine.

    Args:
        source_id: 12 hex digits that name the reading; the same event makes the same one.
        dataset: The dataset's name.
        key: The uploaded object that names the source: dataset.yaml, or a list of URIs.
        version: Its S3 version; None is the newest.
        trigger: The object that a run names as its source.
        order: Sorts by time of upload, or of the schedule.
        caller: Who asked for it.
    """

    model_config = ConfigDict(extra="ignore")

    source_id: str
    dataset: str
    key: str
    version: str | None = None
    trigger: Source
    order: str
    caller: Caller = EVENTS

    @classmethod
    def of(
        cls, dataset: str, key: str, version: str | None, trigger: Source, order: str, caller: Caller = EVENTS
    ) -> SourceTask:
        """The task of an event or of a due time, named by both."""
        identity = "\n".join((dataset, key, version or "", trigger.key, trigger.version or "", order))
        source_id = hashlib.sha256(identity.encode()).hexdigest()[:VERSION_LENGTH]
        return cls(
            source_id=source_id,
            dataset=dataset,
            key=key,
            version=version,
            trigger=trigger,
            order=order,
            caller=caller,
        )

    @property
    def execution(self) -> str:
        """The execution's name; at most 77 of Step Functions' 80 characters."""
        return f"{self.dataset}-{self.source_id}"


class SourceStarts(Protocol):
    """What starts the reading of sources, now or on a schedule."""

    def start(self, task: SourceTask) -> None:
        """Start the task's execution; one of that name is left alone."""
        ...

    def schedule(self, dataset: str, expression: str | None, task: SourceTask) -> None:
        """Read the dataset's source on a schedule from now on; None ends that."""
        ...
