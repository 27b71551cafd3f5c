"""A fitted network is tried on a real batch before a run: does it run, are its gradients right, does it learn at all?

Gradients are held beside finite differences along a few directions: what passes shapes but computes something else than
its gradient says is told, and so is a network whose loss nothing moves.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.shards import Tensors
from shoal_core.errors import BadNetwork
from shoal_core.graphs.autodiff import backward, opset_of, trace
from shoal_core.graphs.builder import GraphBuilder
from shoal_core.graphs.forward import BUFFER, PARAMETER, ForwardGraph
from shoal_core.graphs.losses import Loss
from shoal_core.graphs.training_step import forward_with_parameters
from shoal_core.training.noise import draw_noise
from shoal_core.training.sessions import Session

DIRECTIONS = 3
TOLERANCE = 0.05
"""How far a slope may be from its difference, as a share; float32 and kinks of ReLU and pooling leave less."""
LEARNING_STEPS = 30
LEARNT = 0.02
"""The share of a batch's loss that that many steps must take away."""
_SPANS = (3e-2, 1e-2, 3e-3, 1e-3)
_TELLING = 1e-5
_SEED = 11
_RATE, _MOMENTS, _EPSILON = 1e-2, (0.9, 0.999), 1e-8


@dataclass(frozen=True)
class Proof:
    """What was found that isn't wrong, but ought to be looked at."""

    warnings: tuple[str, ...]


def prove(forward: ForwardGraph, loss: Loss, batch: Tensors, seconds: float) -> Proof:
    """Try a network on a real batch.

    Args:
        forward: The network.
        loss: The run's.
        batch: Samples as the step graph takes them, with `target`.
        seconds: What the trial may take, about; further checks are left out when it is over.

    Raises:
        BadNetwork: It doesn't run, its loss isn't finite, its answers aren't one row per sample or are probabilities
            already, its gradients are wrong, or nothing that is trained moves its loss.
        UnsupportedOperator: A use of an operator that has no gradient.
    """
    deadline = time.monotonic() + seconds
    _check_answers(forward, batch)
    probe = _Probe(forward, loss, batch)
    value, gradients = probe.slopes(forward.initial)
    if not np.isfinite(value) or not all(np.isfinite(gradient).all() for gradient in gradients.values()):
        raise BadNetwork(
            f"The network's loss on {len(batch['target'])} real samples is {value:g}, or its gradient isn't finite.",
            "Look for weights that aren't finite, logarithms and divisions; inputs are standardised already.",
        )
    still = [name for name, gradient in gradients.items() if not gradient.any()]
    if len(still) == len(gradients):
        raise BadNetwork(
            "Nothing that the network would train changes its loss on real samples: every gradient is 0.",
            "Look for a last layer of zeros, ReLUs that never open, or an operator that cuts the graph.",
        )
    _check_slopes(forward, probe, gradients, deadline)
    warnings = []
    if still:
        shown = ", ".join(repr(name) for name in still[:5])
        warnings.append(f"{len(still)} of {len(gradients)} tensors have a gradient of 0 on real samples: {shown}.")
    if time.monotonic() < deadline:
        warnings += _learning(forward, probe, value, deadline)
    return Proof(tuple(warnings))


class _Probe:
    """Loss and gradients of a network on one batch, with the same noise every time."""

    def __init__(self, forward: ForwardGraph, loss: Loss, batch: Tensors) -> None:
        graph = GraphBuilder(opset_of(forward.model), namespace="probe")
        parameters = [PARAMETER + name for name in forward.parameters]
        tape = trace(graph, forward.model, parameters, [BUFFER + name for name in forward.buffers], forward.dropouts)
        tensors = loss.emit(graph, forward.output)
        gradients = backward(graph, tape, {forward.output: tensors.gradient}, parameters)
        graph.output(graph.emit("Identity", tensors.value, output="loss"))
        self._slots = {name: f"slope.{name}" for name in forward.parameters}
        for name, slot in self._slots.items():
            graph.output(graph.emit("Identity", gradients[PARAMETER + name], output=slot))
        self._session = _session(graph.build("probe").SerializeToString())
        noise = draw_noise(self._session.noise, len(batch["target"]), _SEED, 0, 0)
        self._fixed = {**batch, **noise, **{BUFFER + name: value for name, value in forward.buffers.items()}}

    def slopes(self, parameters: Mapping[str, NDArray[Any]]) -> tuple[float, Tensors]:
        """The loss and its gradient by each parameter."""
        outputs = _run(self._session, {**self._fixed, **{PARAMETER + name: x for name, x in parameters.items()}})
        return float(outputs["loss"]), {name: outputs[slot] for name, slot in self._slots.items()}


def _check_answers(forward: ForwardGraph, batch: Tensors) -> None:
    """One row for each sample, whatever their number, and not a Softmax's."""
    session = _session(forward_with_parameters(forward).SerializeToString())
    values = {PARAMETER + name: value for name, value in forward.initial.items()}
    values |= {BUFFER + name: value for name, value in forward.buffers.items()}
    answers: list[NDArray[Any]] = []
    for count in (len(batch["target"]), 1):
        few = {name: array[:count] for name, array in batch.items()}
        answer = _run(session, {**few, **values})[forward.output]
        if len(answer) != count:
            raise BadNetwork(
                f"The network answers {count} samples with {len(answer)} rows.",
                "Export it with a free batch dimension.",
            )
        answers.append(answer)
    rows = answers[0].astype(np.float64)
    if rows.shape[1] > 1 and (rows >= 0).all() and np.allclose(rows.sum(axis=1), 1, atol=1e-3):
        raise BadNetwork(
            "The network answers probabilities, by a Softmax that isn't one operator at its end.",
            "Export it without the Softmax: training needs what goes into it.",
        )


def _check_slopes(forward: ForwardGraph, probe: _Probe, gradients: Tensors, deadline: float) -> None:
    """Compare slopes along directions with differences of the loss."""
    random = np.random.default_rng(_SEED)
    for _ in range(DIRECTIONS):
        # Along the gradient where a coin says so: as steep as can be, so that rounding says little.
        way = {name: gradient * (random.random(gradient.shape) < 0.5) for name, gradient in gradients.items()}
        slope = _length(way)
        if slope:
            apart = _apart(forward.initial, probe, {name: part / slope for name, part in way.items()}, slope)
            if apart > TOLERANCE:
                raise BadNetwork(
                    f"The network's gradient isn't that of its loss: along a direction they differ by {apart:.0%}.",
                    "Tell us: a gradient rule is at fault. `network.trainable` may leave out what lies before it.",
                )
        if time.monotonic() > deadline:
            return


def _apart(initial: Tensors, probe: _Probe, way: Tensors, slope: float) -> float:
    """How far the loss's difference along a direction of length 1 is from its slope, as a share; of several spans."""
    apart: list[float] = []
    for span in _SPANS:
        if apart and min(apart) <= TOLERANCE:
            break
        step = span * (_length(initial) or 1.0)
        ahead, behind = (
            probe.slopes({name: (x + sign * step * way[name]).astype(np.float32) for name, x in initial.items()})[0]
            for sign in (1, -1)
        )
        # What float32 can't tell apart says nothing.
        if max(2 * step * slope, abs(ahead - behind)) > _TELLING * max(abs(ahead), abs(behind)):
            apart.append(abs((ahead - behind) / (2 * step) - slope) / slope)
    return min(apart, default=0.0)


def _length(tensors: Tensors) -> float:
    return float(np.sqrt(sum(float(np.square(x, dtype=np.float64).sum()) for x in tensors.values())))


def _learning(forward: ForwardGraph, probe: _Probe, first: float, deadline: float) -> list[str]:
    """A warning where steps of Adam on one and the same batch hardly lower its loss."""
    values = {name: value.copy() for name, value in forward.initial.items()}
    moments = {name: (np.zeros_like(value), np.zeros_like(value)) for name, value in values.items()}
    best = first
    for step in range(1, LEARNING_STEPS + 1):
        loss, gradients = probe.slopes(values)
        best = min(best, loss)
        if best < (1 - LEARNT) * first:
            return []
        if time.monotonic() > deadline:
            return []
        for name, gradient in gradients.items():
            mean, square = moments[name]
            mean += (1 - _MOMENTS[0]) * (gradient - mean)
            square += (1 - _MOMENTS[1]) * (gradient * gradient - square)
            fair = np.sqrt(square / (1 - _MOMENTS[1] ** step)) + _EPSILON
            values[name] = (values[name] - _RATE * mean / (1 - _MOMENTS[0] ** step) / fair).astype(np.float32)
    return [
        f"The network hardly learns: {LEARNING_STEPS} steps on one batch took its loss from {first:.4f} to {best:.4f}. "
        "Look at its first weights, and at what the exporter made of its layers."
    ]


def _session(model: bytes) -> Session:
    try:
        return Session(model, threads=1)
    except Exception as error:  # ONNX Runtime's errors have no other common base
        raise _cannot("load the network", error) from error


def _run(session: Session, feeds: Mapping[str, NDArray[Any]]) -> Tensors:
    try:
        return session.run(feeds)
    except Exception as error:  # as above
        raise _cannot("run the network on real samples", error) from error


def _cannot(what: str, error: Exception) -> BadNetwork:
    text = " ".join(str(error).split())[:400]
    if isinstance(error, MemoryError) or "bad_alloc" in text or "Failed to allocate" in text:
        return BadNetwork(f"There isn't enough memory to {what}.", "Train a smaller network, or on smaller images.")
    return BadNetwork(f"ONNX Runtime can't {what}: {text}.", "Export it with a free batch dimension, and fixed others.")
