"""A whole training step as one ONNX graph: forward, loss, backward, update. It runs on plain ONNX Runtime.

Inputs: the data tensors by name, `target`, `learning_rate` and `step` float32 [] (`step` counts the steps taken so
far), `param.<name>`, `state.<slot>.<name>` and `buffer.<name>`. Outputs: `loss` float32 [] (mean over the batch),
`new.param.<name>`, `new.state.<slot>.<name>` and `new.buffer.<name>`.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto

from shoal_core.errors import BadNetwork
from shoal_core.graphs.autodiff import backward, opset_of, trace
from shoal_core.graphs.builder import GraphBuilder, check
from shoal_core.graphs.forward import BATCH, BUFFER, PARAMETER, ForwardGraph
from shoal_core.graphs.losses import Loss
from shoal_core.graphs.optimizers import LEARNING_RATE, STATE, STEP, Optimizer

LOSS = "loss"
NEW = "new."


def build_training_step(forward: ForwardGraph, loss: Loss, optimizer: Optimizer) -> onnx.ModelProto:
    """Derive the training step of a network.

    Args:
        forward: The network.
        loss: What to minimise.
        optimizer: How.

    Raises:
        UnsupportedOperator: if a node between a parameter and the output has no gradient rule.
        BadNetwork: if the graph isn't consistent, a parameter has no influence, or nothing renews a buffer.
    """
    graph = GraphBuilder(opset_of(forward.model), namespace="step")
    parameters = [PARAMETER + name for name in forward.parameters]
    buffers = [BUFFER + name for name in forward.buffers]
    tape = trace(graph, forward.model, parameters, buffers)
    tensors = loss.emit(graph, forward.output)
    gradients = backward(graph, tape, {forward.output: tensors.gradient}, parameters)
    gradients = optimizer.clip(graph, gradients)

    for scalar in (LEARNING_RATE, STEP):
        graph.input(scalar, TensorProto.FLOAT, ())
    graph.output(graph.emit("Identity", tensors.value, output=LOSS))
    for parameter in parameters:
        name = parameter.removeprefix(PARAMETER)
        slots = {
            slot: graph.input(f"{STATE}{slot}.{name}", graph.element_type(parameter), graph.shape(parameter))
            for slot in optimizer.slots
        }
        updated = optimizer.emit(graph, parameter, gradients[parameter], slots)
        graph.output(graph.emit("Identity", updated["parameter"], output=NEW + parameter))
        for slot, tensor in slots.items():
            graph.output(graph.emit("Identity", updated[slot], output=NEW + tensor))
    for buffer in buffers:
        graph.output(graph.emit("Identity", tape.renewed[buffer], output=NEW + buffer))
    return graph.build("training_step")


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
