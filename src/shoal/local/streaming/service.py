"""All event source mappings of a stack: a poller for each lane of each shard, and one for each queue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from moto.kinesis.models import kinesis_backends

from shoal.local.compute.spec import FunctionSpec
from shoal.local.queues import Queues
from shoal.local.streaming.mappings import EventSourceMapping, Invoker
from shoal.local.streaming.queue_poller import QueuePoller
from shoal.local.streaming.records import RecordLog
from shoal.local.streaming.shard_poller import FunctionRole, ShardPoller


class MappingService:
    """Runs the mappings.

    Args:
        mappings: What the deployment made.
        functions: The deployed functions by name.
        service: Lambda.
        log: Kinesis' records.
        queues: SQS.
        account: Account id.
        region: Region.
    """

    def __init__(
        self,
        mappings: Sequence[EventSourceMapping],
        functions: Mapping[str, FunctionSpec],
        service: Invoker,
        log: RecordLog,
        queues: Queues,
        account: str,
        region: str,
    ) -> None:
        self._log = log
        self._pollers: list[ShardPoller | QueuePoller] = []
        for mapping in mappings:
            if mapping.source == "sqs":
                self._pollers.append(QueuePoller(mapping, queues, service))
                continue
            spec = functions[mapping.function_name]
            role = FunctionRole(spec.arn, spec.role_arn)
            stream = kinesis_backends[account][region].streams[mapping.source_name]
            self._pollers += [
                ShardPoller(mapping, shard, lane, log, role, service, queues.send)
                for shard in stream.shards
                for lane in range(mapping.parallelization)
            ]

    def start(self) -> None:
        """Begin to poll."""
        for poller in self._pollers:
            poller.start()

    def stop(self) -> None:
        """Poll no more."""
        for poller in self._pollers:
            poller.stop()
        self._log.wake()
        for poller in self._pollers:
            poller.join()
