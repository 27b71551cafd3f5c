"""Where a process of a job stands among the others: hosts by SageMaker's variables, a process for each GPU.

Source: https://github.com/aws/sagemaker-training-toolkit/blob/master/ENVIRONMENT_VARIABLES.md
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from shoal_core.errors import BadInput

PORT = "29500"
# One process scores and writes a round while the others wait for it.
_PATIENCE = timedelta(hours=2)


@dataclass(frozen=True)
class Hosts:
    """The machines of a job.

    Attributes:
        names: Of all, in an order that all agree on; the first one leads.
        current: This one's.
        gpus: GPUs of each.
    """

    names: tuple[str, ...]
    current: str
    gpus: int

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Hosts:
        """As `SM_HOSTS`, `SM_CURRENT_HOST` and `SM_NUM_GPUS` tell. Raises `BadInput` when they don't."""
        try:
            names = tuple(sorted(json.loads(environment.get("SM_HOSTS", '["algo-1"]'))))
            current = environment.get("SM_CURRENT_HOST", names[0])
            names.index(current)
            return cls(names, current, _gpus(environment))
        except (ValueError, IndexError, TypeError) as error:
            raise BadInput(
                "SM_HOSTS, SM_CURRENT_HOST and SM_NUM_GPUS don't describe the machines of a job.",
                "Run this program as SageMaker does.",
            ) from error

    @property
    def processes(self) -> int:
        """Processes on each machine: one for each GPU, or one."""
        return max(1, self.gpus)

    @property
    def first_rank(self) -> int:
        """The rank of this machine's first process."""
        return self.names.index(self.current) * self.processes

    @property
    def world(self) -> int:
        """All processes of the job."""
        return len(self.names) * self.processes


def _gpus(environment: Mapping[str, str]) -> int:
    return min(int(environment.get("SM_NUM_GPUS", "0")), torch.cuda.device_count())


@dataclass(frozen=True)
class Place:
    """One process of a job.

    Attributes:
        rank: Its number; process 0 scores and writes.
        world: How many there are.
        device: Where it computes.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether it scores and writes."""
        return self.rank == 0

    def total(self, value: Tensor) -> Tensor:
        """A tensor added up over all processes, with gradients."""
        if self.world == 1:
            return value
        from torch.distributed.nn.functional import all_reduce

        found: Tensor = all_reduce(value)
        return found

    def told(self, value: Any) -> Any:  # noqa: ANN401 - whatever is told
        """What the leading process says."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]


def join(hosts: Hosts, local: int) -> Place:
    """Take one's place among the processes of a job, once all are there.

    Args:
        hosts: The machines.
        local: The number of the process on its machine.
    """
    device = torch.device("cuda", local) if hosts.gpus else torch.device("cpu")
    if hosts.gpus:
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // hosts.processes))
    place = Place(hosts.first_rank + local, hosts.world, device)
    if hosts.world > 1:
        os.environ.setdefault("MASTER_ADDR", hosts.names[0])
        os.environ.setdefault("MASTER_PORT", PORT)
        dist.init_process_group(
            "nccl" if hosts.gpus else "gloo", rank=place.rank, world_size=place.world, timeout=_PATIENCE
        )
    return place


def leave(place: Place) -> None:
    """Leave the group of processes."""
    if place.world > 1:
        dist.destroy_process_group()
