"""Gradients of recurrent operators, in one or two directions: what they share, and those of GRU and RNN.

The forward node stays the runtime's own kernel, except an LSTM's (`rules/lstm.py`). From its output, which holds every
hidden state, all gates are computed again by one matrix product over all steps; only what really goes from step to step
runs in a loop, and the weights' gradients are again one product each.

In ONNX's words: X [T, N, I], W [D, G H, I], R [D, G H, H], B [D, 2 G H], states [D, N, H]; gates of LSTM i o f c, of
GRU z r h.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from onnx import NodeProto

from shoal_core.graphs.builder import GraphBuilder
from shoal_core.graphs.loops import loop
from shoal_core.graphs.rules.rule import Gradient, Node, Rule, Step
from shoal_core.graphs.rules.sequences import (
    cut_gates,
    cut_halves,
    cut_rows,
    pick,
    product_over_steps,
    shifted,
    total_over_steps,
)
from shoal_core.graphs.shapes import Shape

_ACTIVATIONS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
REVERSES = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}
"""For each direction of a node whether it runs from the last step to the first."""
_W, _R, _B, _LENGTHS, _H0, _C0, _PEEPHOLES = range(1, 8)


@dataclass(frozen=True)
class Direction:
    """One direction of a recurrent node, first axis D taken away.

    Attributes:
        before: The hidden state that each step starts from, [T, N, H].
        index: Which of the node's directions it is.
        last: Gradient of the state after the last step, [N, H]; `last_cell` the same for LSTM's cell.
        outer: Gradient of each step's output, [T, N, H]; None where only the last state is used.
    """

    step: Step
    index: int
    backwards: bool
    w: str
    r: str
    bias_w: str
    bias_r: str
    before: str
    outer: str | None
    last: str
    last_cell: str
    shape: Shape

    @property
    def graph(self) -> GraphBuilder:
        """Where gradients are emitted."""
        return self.step.graph

    @property
    def outers(self) -> list[str]:
        """What a loop over the steps scans for `with_outer`."""
        return [] if self.outer is None else [self.outer]

    def with_outer(self, inner: GraphBuilder, carried: str, outers: Sequence[str]) -> str:
        """The gradient of a step's state: from the steps after it, and of its output."""
        return inner.emit("Add", carried, *outers) if outers else carried

    def gates(self, x: str, weight: str, bias: str) -> list[str]:
        """x [T, N, K] times weight' plus bias, cut into gates [T, N, H]."""
        graph = self.graph
        turned = graph.emit("Transpose", weight, perm=[1, 0])
        return cut_gates(graph, graph.emit("Add", graph.emit("MatMul", x, turned), bias), self.shape)


@dataclass(frozen=True)
class Found:
    """Gradients of one direction: of the input's part and the state's part of the gates before their activation,
    [T, N, G H] each, what `r` was multiplied with where it wasn't the state, and of the first states."""

    inputs: str
    states: str
    first: str
    first_cell: str = ""
    multiplied: tuple[str, ...] = ()


def keep_states(graph: GraphBuilder, node: NodeProto) -> None:
    """Make a recurrent node give its state after every step, which its gradient needs."""
    if not node.output[0]:
        node.output[0] = graph.new_output("states")


def recurrent(core: Callable[[Direction], Found], step: Step) -> Sequence[Gradient | None]:
    """The rule of a recurrent operator, from what finds the gates' gradients in one direction."""
    _require_plain(step)
    graph, node = step.graph, step.node
    results: list[tuple[Direction, Found]] = []
    products: list[tuple[str, str]] = []

    def found() -> list[tuple[Direction, Found]]:
        # Emitted once, whichever gradient is asked for first.
        if not results:
            results.extend((direction, core(direction)) for direction in _directions(step))
        return results

    def stacked(parts: Sequence[str], like: str) -> str:
        rows = [graph.emit("Unsqueeze", part, graph.integers(0)) for part in parts]
        whole = rows[0] if len(rows) == 1 else graph.emit("Concat", *rows, axis=0)
        return graph.refine(whole, graph.shape(like))

    def of_x() -> str:
        parts = [graph.emit("MatMul", each.inputs, direction.w) for direction, each in found()]
        return graph.refine(parts[0] if len(parts) == 1 else graph.emit("Add", *parts), graph.shape(step.x))

    def weights() -> list[tuple[str, str]]:
        if not products:
            products.extend(_weight_gradients(direction, each) for direction, each in found())
        return products

    def of_w() -> str:
        return stacked([of_inputs for of_inputs, _ in weights()], node.inputs[_W])

    def of_r() -> str:
        return stacked([of_states for _, of_states in weights()], node.inputs[_R])

    def of_b() -> str:
        both = [[total_over_steps(graph, part) for part in (each.inputs, each.states)] for _, each in found()]
        return stacked([graph.emit("Concat", *parts, axis=0) for parts in both], node.inputs[_B])

    def of_h0() -> str:
        return stacked([each.first for _, each in found()], node.inputs[_H0])

    def of_c0() -> str:
        return stacked([each.first_cell for _, each in found()], node.inputs[_C0])

    return [of_x, of_w, of_r, of_b, None, of_h0, of_c0, None]


def _require_plain(step: Step) -> None:
    for why in oddities(step.node):
        raise step.unsupported(why)


def oddities(node: Node) -> list[str]:
    """What a recurrent node does that there is no gradient of, in words."""
    usual = _ACTIVATIONS[node.operator] * len(REVERSES[node.attributes.get("direction", "forward")])
    activations = [
        name.decode() if isinstance(name, bytes) else name for name in node.attributes.get("activations", usual)
    ]
    found = [
        ("has sequence lengths", node.has_input(_LENGTHS)),
        ("has peepholes", node.has_input(_PEEPHOLES)),
        ("has other activations than the default", activations != usual),
        ("clips its gates", node.attributes.get("clip") is not None),
        ("couples its input and forget gates", bool(node.attributes.get("input_forget", 0))),
        ("has the batch first (layout 1)", bool(node.attributes.get("layout", 0))),
    ]
    return [why for why, wrong in found if wrong]


def _directions(step: Step) -> list[Direction]:
    graph, node = step.graph, step.node
    kind = step.attribute("direction", "forward")
    reverses = REVERSES[kind]
    y_shape = graph.shape(step.y)
    turns, _, batch, hidden = y_shape
    if not isinstance(hidden, int):
        raise step.unsupported("has an unknown number of units")
    shape: Shape = (turns, batch, hidden)
    zero_state = graph.emit("Mul", pick(graph, pick(graph, step.y, 0, axis=1), 0), graph.scalar(0, step.y))
    gradients = (*step.gradients, None, None)

    def state(name: str | None, index: int) -> str:
        return pick(graph, name, index) if name else zero_state

    def given(place: int) -> str | None:
        return node.inputs[place] if node.has_input(place) else None

    directions = []
    for index, backwards in enumerate(reverses):
        r = pick(graph, node.inputs[_R], index)
        gates_hidden = graph.shape(r)[0]
        if node.has_input(_B):
            both = pick(graph, node.inputs[_B], index)
            bias_w, bias_r = cut_halves(graph, both, gates_hidden)
        else:
            bias_w = bias_r = graph.scalar(0, r)
        output = graph.refine(pick(graph, step.y, index, axis=1), shape)
        outer = step.gradients[0]
        directions.append(
            Direction(
                step=step,
                index=index,
                backwards=backwards,
                w=pick(graph, node.inputs[_W], index),
                r=r,
                bias_w=bias_w,
                bias_r=bias_r,
                before=shifted(graph, output, state(given(_H0), index), backwards),
                outer=graph.refine(pick(graph, outer, index, axis=1), shape) if outer else None,
                last=state(gradients[1], index),
                last_cell=state(gradients[2], index),
                shape=shape,
            )
        )
    return directions


def _rnn(direction: Direction) -> Found:
    graph = direction.graph
    hidden = graph.emit(
        "Tanh",
        graph.emit(
            "Add",
            direction.gates(direction.step.x, direction.w, direction.bias_w)[0],
            direction.gates(direction.before, direction.r, direction.bias_r)[0],
        ),
    )
    slope = graph.emit("Sub", graph.scalar(1, hidden), graph.emit("Mul", hidden, hidden))

    def back(inner: GraphBuilder, carried: Sequence[str], parts: Sequence[str]) -> tuple[list[str], list[str]]:
        along, *outers = parts
        of_gates = inner.emit("Mul", direction.with_outer(inner, carried[0], outers), along)
        return [inner.emit("MatMul", of_gates, direction.r)], [of_gates]

    (first,), (of_gates,) = loop(graph, back, [direction.last], [slope, *direction.outers], not direction.backwards)
    return Found(of_gates, of_gates, first)


@dataclass(frozen=True)
class _GruGates:
    """Gates of all steps, and how the gradient of a step's state spreads to them, [T, N, H] each."""

    z: str
    r: str
    to_z: str
    to_new: str
    r_slope: str


def _gru_gates(direction: Direction, z: str, r: str, new: str) -> _GruGates:
    graph = direction.graph
    one = graph.scalar(1, z)
    keep = graph.emit("Sub", one, z)
    flat = graph.emit("Sub", one, graph.emit("Mul", new, new))
    return _GruGates(
        z=z,
        r=r,
        to_z=graph.emit("Mul", graph.emit("Sub", direction.before, new), graph.emit("Mul", z, keep)),
        to_new=graph.emit("Mul", keep, flat),
        r_slope=graph.emit("Mul", r, graph.emit("Sub", one, r)),
    )


def _gru(direction: Direction) -> Found:
    graph = direction.graph
    inputs = direction.gates(direction.step.x, direction.w, direction.bias_w)
    states = direction.gates(direction.before, direction.r, direction.bias_r)
    z, r = (graph.emit("Sigmoid", graph.emit("Add", inputs[k], states[k])) for k in range(2))
    if direction.step.attribute("linear_before_reset", 0):
        new = graph.emit("Tanh", graph.emit("Add", inputs[2], graph.emit("Mul", r, states[2])))
        return _gru_reset_after(direction, _gru_gates(direction, z, r, new), states[2])
    _, _, r_new = cut_rows(graph, direction.r, 3)
    reset = graph.emit("Mul", r, direction.before)
    product_ = graph.emit("MatMul", reset, graph.emit("Transpose", r_new, perm=[1, 0]))
    bias = direction.bias_r
    if graph.rank(bias):
        bias = cut_rows(graph, bias, 3)[2]
    new = graph.emit("Tanh", graph.emit("Add", inputs[2], graph.emit("Add", product_, bias)))
    return _gru_reset_before(direction, _gru_gates(direction, z, r, new), reset)


def _gru_reset_after(direction: Direction, gates: _GruGates, linear: str) -> Found:
    """The reset gate multiplies the state's product with `r` (cuDNN's and PyTorch's GRU)."""
    graph = direction.graph
    to_r = graph.emit("Mul", graph.emit("Mul", gates.to_new, linear), gates.r_slope)
    to_states = graph.emit("Concat", gates.to_z, to_r, graph.emit("Mul", gates.to_new, gates.r), axis=-1)

    def back(inner: GraphBuilder, carried: Sequence[str], parts: Sequence[str]) -> tuple[list[str], list[str]]:
        spread, z, *outers = parts
        of_hidden = direction.with_outer(inner, carried[0], outers)
        of_states = inner.emit("Mul", inner.emit("Concat", of_hidden, of_hidden, of_hidden, axis=-1), spread)
        passed = inner.emit("Mul", of_hidden, z)
        return [inner.emit("Add", inner.emit("MatMul", of_states, direction.r), passed)], [of_hidden, of_states]

    (first,), (of_hidden, of_states) = loop(
        graph, back, [direction.last], [to_states, gates.z, *direction.outers], not direction.backwards
    )
    slopes = (gates.to_z, to_r, gates.to_new)
    of_inputs = graph.emit("Concat", *(graph.emit("Mul", of_hidden, slope) for slope in slopes), axis=-1)
    return Found(of_inputs, of_states, first)


def _gru_reset_before(direction: Direction, gates: _GruGates, reset: str) -> Found:
    """The reset gate multiplies the state before its product with `r` (the original GRU, ONNX's default)."""
    graph = direction.graph
    to_r = graph.emit("Mul", direction.before, gates.r_slope)
    r_z, r_r, r_new = cut_rows(graph, direction.r, 3)

    def back(inner: GraphBuilder, carried: Sequence[str], parts: Sequence[str]) -> tuple[list[str], list[str]]:
        to_new, to_z, to_reset, z, r, *outers = parts
        of_hidden = direction.with_outer(inner, carried[0], outers)
        of_new = inner.emit("Mul", of_hidden, to_new)
        of_reset = inner.emit("MatMul", of_new, r_new)
        of_z, of_r = inner.emit("Mul", of_hidden, to_z), inner.emit("Mul", of_reset, to_reset)
        total = inner.emit("Add", inner.emit("Mul", of_hidden, z), inner.emit("Mul", of_reset, r))
        for gate, rows in ((of_z, r_z), (of_r, r_r)):
            total = inner.emit("Add", total, inner.emit("MatMul", gate, rows))
        return [total], [inner.emit("Concat", of_z, of_r, of_new, axis=-1)]

    scanned = [gates.to_new, gates.to_z, to_r, gates.z, gates.r, *direction.outers]
    (first,), (of_gates,) = loop(graph, back, [direction.last], scanned, not direction.backwards)
    return Found(of_gates, of_gates, first, multiplied=(reset,))


def _weight_gradients(direction: Direction, found: Found) -> tuple[str, str]:
    """Of the input's weights and of the state's, by one product where both have the gates' gradient in common."""
    graph, x = direction.graph, direction.step.x
    widths = graph.shape(x)[-1], direction.shape[-1]
    if found.inputs != found.states or found.multiplied or not all(isinstance(width, int) for width in widths):
        return product_over_steps(graph, found.inputs, x), _recurrence_gradient(direction, found)
    both = graph.emit("Concat", x, direction.before, axis=-1)
    of_inputs, of_states = graph.cut(product_over_steps(graph, found.inputs, both), [int(w) for w in widths], axis=-1)
    return of_inputs, of_states


def _recurrence_gradient(direction: Direction, found: Found) -> str:
    graph = direction.graph
    if not found.multiplied:
        return product_over_steps(graph, found.states, direction.before)
    # The last gate's rows were multiplied with something else than the state.
    *gates, last = cut_gates(graph, found.states, direction.shape)
    rows = [product_over_steps(graph, gate, direction.before) for gate in gates]
    return graph.emit("Concat", *rows, product_over_steps(graph, last, found.multiplied[0]), axis=0)


RULES: dict[str, Rule] = {
    "GRU": partial(recurrent, _gru),
    "RNN": partial(recurrent, _rnn),
}
