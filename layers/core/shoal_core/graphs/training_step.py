"""A whole training step as one ONNX graph: forward, loss, backward, update. It runs on plain ONNX Runtime.

Inputs: the data tensors by name, `target`, `learning_rate` and `step` float32 [] (`step` counts the steps taken so
far), `param.<name>`, `state.<slot>.<name>`, `buffer.<name>`, and `noise.<output>` of each Dropout. Outputs: `loss`
float32 [] (mean over the batch), `new.param.<name>`, `new.state.<slot>.<name>` and `new.buffer.<name>`.

For workers that average gradients the step is two graphs: `build_gradient` ends with `gradient.<name>` in place of
what the optimizer makes new, `build_descent` begins with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx
from onnx import TensorProto

from shoal_core.data.config_types import Recompute
from shoal_core.errors import BadNetwork
from shoal_core.graphs.autodiff import Tape, backward, opset_of, trace
from shoal_core.graphs.builder import GraphBuilder, check
from shoal_core.graphs.forward import BATCH, BUFFER, PARAMETER, ForwardGraph
from shoal_core.graphs.losses import Loss
from shoal_core.graphs.memory import StepMemory, step_memory
from shoal_core.graphs.optimizers import LEARNING_RATE, STATE, STEP, Optimizer
from shoal_core.graphs.recomputation import cut
from shoal_core.graphs.rules.blocked import has_blocks

LOSS = "loss"
NEW = "new."
GRADIENT = "gradient."
_NAME, _GRADIENT_NAME, _DESCENT_NAME = "training_step", "gradient", "descent"
_PARTS = (2, 3, 4, 6, 8, 12, 16, 24, 32)


@dataclass(frozen=True)
class PlannedStep:
    """A training step that was made to fit into memory.

    Attributes:
        model: The graph.
        memory: What a step takes.
        kept: What it would take if every result were kept.
        again: How many parts of the forward pass run a second time, right before their gradients; 0 for none.
    """

    model: onnx.ModelProto
    memory: StepMemory
    kept: StepMemory
    again: int


def build_training_step(forward: ForwardGraph, loss: Loss, optimizer: Optimizer, parts: int = 1) -> onnx.ModelProto:
    """Derive the training step of a network.

    Args:
        forward: The network.
        loss: What to minimise.
        optimizer: How.
        parts: Into how many parts the forward pass is cut. The results of all but the last aren't kept for the
            gradients, but computed a second time right before them. 1 keeps everything.

    Raises:
        UnsupportedOperator: if a node between a parameter and the output has no gradient rule.
        BadNetwork: if the graph isn't consistent, a parameter has no influence, or nothing renews a buffer.
    """
    return _emit(forward, loss, optimizer, parts)[0].build(_NAME)


def build_gradient(forward: ForwardGraph, loss: Loss, parts: int = 1) -> onnx.ModelProto:
    """The part of a training step that looks at samples: its loss, the gradient of that, and the buffers renewed.

    Inputs: the data tensors, `target`, `param.*`, `buffer.*` and `noise.*`. Outputs: `loss`, `gradient.<name>` of each
    parameter, and `new.buffer.*`.

    Args:
        forward: The network.
        loss: What to minimise.
        parts: As for `build_training_step`.

    Raises:
        UnsupportedOperator, BadNetwork: as `build_training_step`.
    """
    graph, tape, gradients = _differentiated(forward, loss, parts)
    for parameter, gradient in gradients.items():
        name = GRADIENT + parameter.removeprefix(PARAMETER)
        graph.output(graph.emit("Identity", gradient, output=name))
    _renew(graph, forward, tape)
    return graph.build(_GRADIENT_NAME)


def build_descent(forward: ForwardGraph, optimizer: Optimizer) -> onnx.ModelProto:
    """The part of a training step that looks at no sample: clipping and the optimizer, on any gradient.

    Inputs: `gradient.*`, `param.*`, `state.*`, `learning_rate` and `step`. Outputs: `new.param.*` and `new.state.*`.

    Args:
        forward: The network; only its parameters matter.
        optimizer: How to descend.
    """
    graph = GraphBuilder(opset_of(forward.model), namespace="descent")
    shapes = {name: forward.initial[name].shape for name in forward.parameters}
    for name, shape in shapes.items():
        graph.input(PARAMETER + name, TensorProto.FLOAT, shape)
    gradients = {
        PARAMETER + name: graph.input(GRADIENT + name, TensorProto.FLOAT, shape) for name, shape in shapes.items()
    }
    _descend(graph, optimizer, gradients)
    return graph.build(_DESCENT_NAME)


def plan_training_step(
    forward: ForwardGraph, loss: Loss, optimizer: Optimizer, batch: int, room: int, recompute: Recompute = "auto"
) -> PlannedStep:
    """Derive the training step of a network, with parts computed again instead of kept where memory asks for it.

    Args:
        forward: The network.
        loss: What to minimise.
        optimizer: How.
        batch: Samples of a step.
        room: Bytes that a step's inputs and results may take.
        recompute: `auto` computes again what has to be, in as few parts as fit; `always` does whatever saves most;
            `never` keeps everything.

    Returns:
        The first plan that fits, or else the smallest one.

    Raises:
        UnsupportedOperator, BadNetwork: as `build_training_step`.
    """
    sizes = {BATCH: batch}
    graph, nodes = _emit(forward, loss, optimizer, 1)
    kept = step_memory(graph, sizes)
    best, again = (graph, kept), 0
    for parts in _PARTS if recompute != "never" else ():
        if parts > nodes or (recompute == "auto" and best[1].total <= room):
            break
        graph, _ = _emit(forward, loss, optimizer, parts)
        memory = step_memory(graph, sizes)
        if memory.total < best[1].total:
            best, again = (graph, memory), parts - 1
    return PlannedStep(best[0].build(_NAME), best[1], kept, again)


def _emit(forward: ForwardGraph, loss: Loss, optimizer: Optimizer, parts: int) -> tuple[GraphBuilder, int]:
    """The whole step, its forward pass cut into parts, and the number of nodes of the forward pass."""
    graph, tape, gradients = _differentiated(forward, loss, parts)
    _descend(graph, optimizer, gradients)
    _renew(graph, forward, tape)
    return graph, len(tape.nodes)


def _differentiated(forward: ForwardGraph, loss: Loss, parts: int) -> tuple[GraphBuilder, Tape, dict[str, str]]:
    """A graph with the loss and its gradient by parameter; what was traced; and the gradients, unclipped."""
    graph = GraphBuilder(opset_of(forward.model), namespace="step", blocked=has_blocks())
    parameters = [PARAMETER + name for name in forward.parameters]
    buffers = [BUFFER + name for name in forward.buffers]
    tape = trace(graph, forward.model, parameters, buffers, forward.dropouts)
    again = cut(graph, tape.nodes, parts) if parts > 1 else ()
    tensors = loss.emit(graph, forward.output)
    gradients = backward(graph, tape, {forward.output: tensors.gradient}, parameters, again)
    graph.output(graph.emit("Identity", tensors.value, output=LOSS))
    return graph, tape, {parameter: gradients[parameter] for parameter in parameters}


def _descend(graph: GraphBuilder, optimizer: Optimizer, gradients: Mapping[str, str]) -> None:
    """Emit one step of the optimizer, with its inputs and outputs."""
    clipped = optimizer.clip(graph, gradients)
    for scalar in (LEARNING_RATE, STEP):
        graph.input(scalar, TensorProto.FLOAT, ())
    for parameter in gradients:
        name = parameter.removeprefix(PARAMETER)
        slots = {
            slot: graph.input(f"{STATE}{slot}.{name}", graph.element_type(parameter), graph.shape(parameter))
            for slot in optimizer.slots
        }
        updated = optimizer.emit(graph, parameter, clipped[parameter], slots)
        graph.output(graph.emit("Identity", updated["parameter"], output=NEW + parameter))
        for slot, tensor in slots.items():
            graph.output(graph.emit("Identity", updated[slot], output=NEW + tensor))


def _renew(graph: GraphBuilder, forward: ForwardGraph, tape: Tape) -> None:
    """Emit the new values of the buffers."""
    for name in forward.buffers:
        graph.output(graph.emit("Identity", tape.renewed[BUFFER + name], output=NEW + BUFFER + name))


def forward_with_parameters(forward: ForwardGraph) -> onnx.ModelProto:
    """The network alone as it is served, parameters and buffers as inputs, for evaluation and export.

    Raises:
        BadNetwork: if the graph isn't valid, or a data input or the output has no batch dimension `N`.
    """
    model = onnx.ModelProto()
    model.CopyFrom(forward.model)
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        if not value.name.startswith((PARAMETER, BUFFER)) and (not dims or dims[0].dim_param != BATCH):
            raise BadNetwork(f"Tensor {value.name!r} of network {model.graph.name!r} has no batch dimension {BATCH!r}.")
    check(model)
    return model
