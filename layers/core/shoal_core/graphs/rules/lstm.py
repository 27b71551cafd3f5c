"""LSTM: its gradient, and its forward pass as a training step runs it.

The runtime's own kernel tells the hidden states only: gates and cells would have to be computed again. In a loop of its
own every step is one matrix product and a few small nodes, and gates and cells are there for the gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from shoal_core.graphs.builder import GraphBuilder
from shoal_core.graphs.loops import loop
from shoal_core.graphs.rules.recurrent import REVERSES, Direction, Found, oddities, recurrent
from shoal_core.graphs.rules.rule import Node, Rule
from shoal_core.graphs.rules.sequences import cut_halves, pick

_W, _R, _B, _H0, _C0 = 1, 2, 3, 5, 6
# Of each direction, behind the node's own three outputs: gates i o f [T, N, 3 H]; g, f times the cell before, and the
# tanh of the cell, [T, N, H].
_KEPT = ("gates", "candidates", "remembered", "bounded")


def runs_in_a_loop(graph: GraphBuilder, node: Node) -> bool:
    """Whether a node is an LSTM with nothing unusual, which `emit_loop` can emit."""
    known = node.operator == "LSTM" and graph.has(node.inputs[0]) and graph.has_rank(node.inputs[0])
    return known and not oddities(node)


def emit_loop(graph: GraphBuilder, node: Node) -> Node:
    """Emit an LSTM's forward pass.

    Returns:
        The node for the tape; behind its three outputs are those of `_KEPT` for each direction.
    """
    kept: list[str] = []
    lasts: list[tuple[str, str]] = []
    states: list[str] = []
    for index, backwards in enumerate(REVERSES[node.attributes.get("direction", "forward")]):
        hidden, last, others = _run(graph, node, index, backwards)
        states.append(graph.emit("Unsqueeze", hidden, graph.integers(1)))
        lasts.append(last)
        kept += others
    names = [name or graph.new_output("lstm") for name in (*node.outputs, "", "", "")[:3]]
    graph.emit("Concat", *states, axis=1, output=names[0])
    for place, name in enumerate(names[1:]):
        graph.emit("Concat", *(last[place] for last in lasts), axis=0, output=name)
    return replace(node, outputs=(*names, *kept))


def _run(graph: GraphBuilder, node: Node, index: int, backwards: bool) -> tuple[str, tuple[str, str], list[str]]:
    """One direction: hidden states [T, N, H], the last hidden and cell state [1, N, H], and what is kept."""
    r = pick(graph, node.inputs[_R], index)
    hidden = graph.shape(r)[1]
    seen = graph.emit("MatMul", node.inputs[0], _turned(graph, pick(graph, node.inputs[_W], index)))
    if node.has_input(_B):
        both = cut_halves(graph, pick(graph, node.inputs[_B], index), graph.shape(r)[0])
        seen = graph.emit("Add", seen, graph.emit("Add", *both))
    turned = _turned(graph, r)

    def turn(inner: GraphBuilder, carried: Sequence[str], parts: Sequence[str]) -> tuple[list[str], list[str]]:
        raw = inner.emit("Gemm", carried[0], turned, parts[0])
        open_, candidate = inner.cut(raw, [3 * int(hidden), int(hidden)], axis=-1)
        gates = inner.emit("Sigmoid", open_)
        i, o, f = inner.split(gates, 3, axis=-1)
        g = inner.emit("Tanh", candidate)
        remembered = inner.emit("Mul", f, carried[1])
        cell = inner.emit("Add", remembered, inner.emit("Mul", i, g))
        bounded = inner.emit("Tanh", cell)
        return [inner.emit("Mul", o, bounded), cell], [gates, g, remembered, bounded]

    nothing = _no_state(graph, seen, int(hidden))
    first = [pick(graph, node.inputs[k], index) if node.has_input(k) else nothing for k in (_H0, _C0)]
    last, kept = loop(graph, turn, first, [seen], backwards)
    ends = [graph.emit("Unsqueeze", state, graph.integers(0)) for state in last]
    # A loop's results may not be what it carries: a copy of each state would be made in every turn.
    gates, _, _, bounded = kept
    return graph.emit("Mul", graph.split(gates, 3, axis=-1)[1], bounded), (ends[0], ends[1]), kept


def _turned(graph: GraphBuilder, matrix: str) -> str:
    return graph.emit("Transpose", matrix, perm=[1, 0])


def _no_state(graph: GraphBuilder, seen: str, hidden: int) -> str:
    """Zeros [N, H] for gates [T, N, 4 H]."""
    batch = graph.shape(seen)[1]
    size = graph.emit("Concat", graph.emit("Shape", seen, start=1, end=2), graph.integers(hidden), axis=0)
    zeros = graph.emit("Expand", graph.constant(np.zeros((1, 1), graph.dtype(seen))), size)
    return graph.refine(zeros, (batch, hidden))


def _lstm(direction: Direction) -> Found:
    graph = direction.graph
    start = 3 + direction.index * len(_KEPT)
    gates, g, remembered, bounded = direction.step.node.outputs[start : start + len(_KEPT)]
    i, o, f = graph.split(gates, 3, axis=-1)

    def product(first: str, second: str) -> str:
        return graph.emit("Mul", first, second)

    def without(value: str, part: str) -> str:
        return graph.emit("Sub", value, product(value, part))

    added, shown = product(i, g), product(o, bounded)
    to_cell = graph.emit("Sub", o, product(shown, bounded))
    # Of a gate s times something the slope is s (1 - s) times that.
    gated = [without(added, i), without(shown, o), without(remembered, f)]
    to_gates = graph.emit("Concat", *gated, graph.emit("Sub", i, product(added, g)), axis=-1)

    def back(inner: GraphBuilder, carried: Sequence[str], parts: Sequence[str]) -> tuple[list[str], list[str]]:
        along, slopes, forget, *outers = parts
        of_hidden = direction.with_outer(inner, carried[0], outers)
        of_cell = inner.emit("Add", carried[1], inner.emit("Mul", of_hidden, along))
        whole = inner.emit("Concat", of_cell, of_hidden, of_cell, of_cell, axis=-1)
        of_gates = inner.emit("Mul", whole, slopes)
        return [inner.emit("MatMul", of_gates, direction.r), inner.emit("Mul", of_cell, forget)], [of_gates]

    ends, scanned = [direction.last, direction.last_cell], [to_cell, to_gates, f, *direction.outers]
    (first, first_cell), (of_gates,) = loop(graph, back, ends, scanned, not direction.backwards)
    return Found(of_gates, of_gates, first, first_cell)


RULES: dict[str, Rule] = {"LSTM": partial(recurrent, _lstm)}
