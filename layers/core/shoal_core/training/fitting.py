"""A step graph that fits into a worker's memory, and what the run says about it."""

from __future__ import annotations

import onnx

from shoal_core.data.config_types import Recompute
from shoal_core.errors import BadConfig
from shoal_core.graphs.forward import ForwardGraph
from shoal_core.graphs.losses import Loss
from shoal_core.graphs.optimizers import Optimizer
from shoal_core.graphs.training_step import PlannedStep, build_descent, build_gradient, plan_training_step
from shoal_core.keys import RunKeys
from shoal_core.training.gradients import PIECE
from shoal_core.training.settings import TrainingSettings
from shoal_core.training.worker import ONE_VCPU, Worker

_MEGABYTE = 2**20
# The interpreter with its libraries (120 MB seen), two decoded shards of 64 MB at most, and what the update is made of.
_AROUND_BYTES = 300 * _MEGABYTE
# What the runtime takes of the system for its tensors, as a multiple of the tensors themselves: 1.0 to 1.25 seen.
_SPREAD = 1.25


class StepFitter:
    """Makes the step graphs of a run.

    Args:
        loss: What to minimise.
        optimizer: How.
        settings: Of the run. A SageMaker job's memory isn't a function's: nothing is computed twice for it.
        recompute: Which results are computed twice instead of kept (`training.recompute`).
        worker: What runs the step.
    """

    def __init__(
        self,
        loss: Loss,
        optimizer: Optimizer,
        settings: TrainingSettings,
        recompute: Recompute,
        worker: Worker = ONE_VCPU,
    ) -> None:
        self._loss, self._optimizer, self._worker = loss, optimizer, worker
        self._keys, self._gradients = RunKeys(settings.run_id), settings.scheme == "synchronous"
        # Gradients that are averaged are computed piece by piece.
        self._batch = min(settings.local_batch_size, PIECE) if self._gradients else settings.local_batch_size
        self._on_lambda = settings.job is None
        self._recompute: Recompute = recompute if self._on_lambda else "never"
        self._plans: list[PlannedStep] = []

    def graphs(self, key: str, forward: ForwardGraph) -> dict[str, onnx.ModelProto]:
        """What the rounds run of a network, by key: its step, or by the synchronous scheme the two parts of it.

        Args:
            key: Of the graph that workers run.
            forward: The network.

        Raises:
            BadConfig, UnsupportedOperator, BadNetwork: as `step`.
        """
        step = self.step(forward)
        if not self._gradients:
            return {key: step}
        parts = self._plans[-1].again + 1
        return {
            key: build_gradient(forward, self._loss, parts),
            self._keys.descent_of(key): build_descent(forward, self._optimizer),
        }

    def step(self, forward: ForwardGraph) -> onnx.ModelProto:
        """The training step of a network.

        Raises:
            BadConfig: A step doesn't fit into a worker, whatever is computed twice. Where `never` was asked for, only
                what can't fit at all is refused.
            UnsupportedOperator, BadNetwork: as `plan_training_step`.
        """
        held = sum(value.nbytes for value in forward.initial.values()) * (1 + len(self._optimizer.slots))
        # A worker holds the values before and after a step, and the runtime takes more than its tensors.
        room = held + int((self._worker.bytes - _AROUND_BYTES - 2 * held) / _SPREAD)
        plan = plan_training_step(forward, self._loss, self._optimizer, self._batch, room, self._recompute)
        if self._on_lambda and plan.memory.total > (self._worker.bytes if self._recompute == "never" else room):
            raise BadConfig(
                f"A step of {self._batch} samples takes about {_megabytes(plan.memory.total)} MB; a worker has "
                f"{_megabytes(self._worker.bytes)}, of which {_megabytes(room)} are left for it.",
                "Lower training.batch_size, the size of the samples or that of the network, use more workers, raise "
                "the stack's parameter TrainingMemory, or set compute: sagemaker in dataset.yaml.",
            )
        self._plans.append(plan)
        return plan.model

    def told(self, settings: TrainingSettings) -> TrainingSettings:
        """The run's settings with what was decided, where it was."""
        plan = max(self._plans, key=lambda plan: plan.again, default=None)
        if plan is None or not plan.again:
            return settings
        why = (
            f"A step of {self._batch} samples takes about {_megabytes(plan.memory.total)} MB instead of "
            f"{_megabytes(plan.kept.total)}, and about a quarter more time: {plan.again} "
            f"part{'s' * (plan.again > 1)} of the network run twice, so that their results needn't be kept."
        )
        return settings.model_copy(update={"reasons": {**settings.reasons, "recompute": why}})


def _megabytes(count: int) -> str:
    return f"{count / _MEGABYTE:,.0f}"
