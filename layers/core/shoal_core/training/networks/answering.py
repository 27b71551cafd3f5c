"""What a foreign network answers: the tensor that the loss is computed of, without an activation at its end."""

from __future__ import annotations

from dataclasses import dataclass

import onnx
from onnx import NodeProto, TensorProto

from shoal_core.errors import BadConfig, BadNetwork
from shoal_core.graphs.builder import shape_of_value
from shoal_core.graphs.forward import BATCH, LOGITS, PREDICTION
from shoal_core.graphs.recipes.network import Network
from shoal_core.graphs.shapes import Shape, product
from shoal_core.graphs.signature import Classification, NetworkSignature, Regression
from shoal_core.training.networks.config import NetworkConfig
from shoal_core.training.networks.reading import Foreign

_PASSED = frozenset({"Identity", "Dropout"})
_PROBABLE = frozenset({"Softmax", "LogSoftmax", "Sigmoid"})
# What keeps a network from answering numbers on both sides of 0, which standardised targets are.
_BOUNDED = frozenset({*_PROBABLE, "Tanh", "Relu", "HardSigmoid", "Softplus"})
_WIDTH_FIX = "Give its last layer as many outputs as the dataset has classes"


@dataclass(frozen=True)
class Answer:
    """The tensor that a network's loss is computed of, and what was left out behind it."""

    tensor: str
    notes: tuple[str, ...] = ()


def choose_answer(foreign: Foreign, signature: NetworkSignature, config: NetworkConfig) -> Answer:
    """Find the output, and what it is before probabilities are made of it.

    Args:
        foreign: The network.
        signature: What it shall answer.
        config: What the user said.

    Raises:
        BadConfig: The user named an output that isn't there.
        BadNetwork: None of several outputs stands out, or the answers are bounded where the targets aren't.
    """
    output = _output(foreign, signature, config)
    notes = [] if len(foreign.outputs) == 1 else [f"Of {len(foreign.outputs)} outputs {output!r} is trained."]
    makers = {name: node for node in foreign.nodes for name in node.output}
    node = _maker(makers, output)
    if node is None:
        return Answer(output, tuple(notes))
    operator = node.op_type
    if isinstance(signature.task, Regression) and operator in _BOUNDED:
        raise BadNetwork(
            f"The network ends in {operator} (node {_name(node)!r}), and predicts numbers that are standardised: "
            "below 0 as often as above.",
            f"Export it without the {operator} at its end; Shoal brings answers back to the target's own units.",
        )
    if operator in _PROBABLE:
        made = "Sigmoid" if not isinstance(signature.task, Classification | Regression) else "Softmax"
        notes.append(f"{operator} at the network's end is left out while it trains; the model answers by {made}.")
        return Answer(str(node.input[0]), tuple(notes))
    return Answer(output, tuple(notes))


def emit_answer(network: Network, tensor: str, signature: NetworkSignature) -> tuple[str, list[str]]:
    """Bring a network's answer into the shape that losses take: float32 [N, outputs].

    Returns:
        `logits` or `prediction`, a graph output by now, and what was done.

    Raises:
        BadNetwork: It has another width, no batch, or isn't of floats.
    """
    graph = network.graph
    wanted = signature.outputs
    notes: list[str] = []
    if graph.element_type(tensor) != TensorProto.FLOAT:
        kind = TensorProto.DataType.Name(graph.element_type(tensor))
        raise BadNetwork(f"The network answers {kind}, not FLOAT.", "Export it in float32.")
    shape = graph.shape(tensor)
    if not shape or isinstance(shape[0], int):
        raise BadNetwork(
            f"The network answers {list(shape)} whatever the batch: its first dimension isn't the batch.",
            "Export it with a free batch: of PyTorch `dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)`, and with "
            "`x.flatten(1)`, not a fixed size, in front of linear layers.",
        )
    width = product(shape[1:])
    if width == 1 and wanted == 2 and isinstance(signature.task, Classification):
        column = graph.refine(graph.emit("Reshape", tensor, graph.integers(-1, 1)), (BATCH, 1))
        tensor = graph.emit("Concat", graph.emit("Sub", column, column), column, axis=1)
        notes.append("The one number that the network answers is the second class's; the first one's counts as 0.")
    elif isinstance(width, int) and width != wanted:
        raise _wrong_width(width, signature)
    elif shape != (BATCH, wanted):
        tensor = graph.emit("Reshape", tensor, graph.integers(-1, wanted))
    name = PREDICTION if isinstance(signature.task, Regression) else LOGITS
    return graph.output(graph.refine(graph.emit("Identity", tensor, output=name), (BATCH, wanted))), notes


def _output(foreign: Foreign, signature: NetworkSignature, config: NetworkConfig) -> str:
    names = [str(value.name) for value in foreign.outputs]
    if config.output:
        if config.output not in names:
            raise BadConfig(f"network.output: there is no output {config.output!r}.", f"There are: {', '.join(names)}.")
        return config.output
    if len(names) == 1:
        return names[0]
    fitting = [str(value.name) for value in foreign.outputs if _fits(value, signature.outputs)]
    if len(fitting) != 1:
        raise BadNetwork(
            f"The network has {len(names)} outputs ({', '.join(names[:10])}), and {len(fitting)} of them fit.",
            "Name the one that answers: `--set network.output=NAME`.",
        )
    return fitting[0]


def _fits(value: onnx.ValueInfoProto, width: int) -> bool:
    kind = value.type.tensor_type
    shape: Shape | None = shape_of_value(value)
    return kind.elem_type == TensorProto.FLOAT and shape is not None and len(shape) == 2 and shape[1] == width


def _maker(makers: dict[str, NodeProto], tensor: str) -> NodeProto | None:
    """What makes a tensor, behind nodes that hand on what they get."""
    node = makers.get(tensor)
    while node is not None and node.op_type in _PASSED and node.input[0] in makers:
        node = makers[node.input[0]]
    return node


def _wrong_width(width: int, signature: NetworkSignature) -> BadNetwork:
    if isinstance(signature.task, Regression):
        reason = f"The network answers {width} numbers for each sample; a regression has one."
        return BadNetwork(reason, "Give its last layer one output.")
    return BadNetwork(
        f"The network answers {width} numbers for each sample, and the dataset has {signature.outputs} classes.",
        f"{_WIDTH_FIX}: {signature.outputs}.",
    )


def _name(node: NodeProto) -> str:
    return str(node.name or node.output[0])[:100]
