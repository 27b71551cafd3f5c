"""Parts of a forward pass computed a second time, so that their results needn't be kept until the backward pass.

"Gradient checkpointing" (T. Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016): the tape is cut into
segments; what crosses a cut is kept, what lies inside a segment is computed again right before its gradients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

from onnx import helper

from shoal_core.graphs.builder import GraphBuilder
from shoal_core.graphs.forward import BUFFER, PARAMETER
from shoal_core.graphs.rules.forwards import emit_faster
from shoal_core.graphs.rules.normalization import emit_trained_batch_normalization
from shoal_core.graphs.rules.rule import Node

_BATCH_NORMALIZATION = "BatchNormalization"


class Recomputation:
    """Hands the backward pass its nodes: those of a segment with the names of results that were computed again.

    Args:
        graph: Where the second pass is emitted.
        nodes: The tape's, in order.
        segments: Ranges of them.
    """

    def __init__(self, graph: GraphBuilder, nodes: Sequence[Node], segments: Sequence[range]) -> None:
        self._graph = graph
        self._nodes = nodes
        self._segment = {nodes[index].outputs: segment for segment in segments for index in segment}
        self._again: dict[range, dict[tuple[str, ...], Node]] = {}

    def node(self, node: Node, gradient: str) -> Node:
        """A node as its gradient shall see it. The first one of a segment makes the whole segment run again.

        Args:
            node: Of the tape.
            gradient: One of the node's outputs' gradients: the second pass waits for it.
        """
        segment = self._segment.get(node.outputs)
        if segment is None:
            return node
        if segment not in self._again:
            self._again[segment] = self._emit(segment, gradient)
        return self._again[segment][node.outputs]

    def _emit(self, segment: range, gradient: str) -> dict[tuple[str, ...], Node]:
        names: dict[str, str] = {}
        emitted: dict[tuple[str, ...], Node] = {}
        for index in segment:
            node = self._nodes[index]
            if node.operator == "Constant":
                emitted[node.outputs] = node
                continue
            inputs = tuple(self._seen(name, names, gradient) for name in node.inputs)
            again = self._emit_node(replace(node, inputs=inputs), node)
            names |= {old: new for old, new in zip(node.outputs, again.outputs, strict=True) if old}
            emitted[node.outputs] = again
        return emitted

    def _emit_node(self, node: Node, original: Node) -> Node:
        graph = self._graph
        outputs = tuple(name and graph.new_output("again") for name in node.outputs)
        if node.operator == _BATCH_NORMALIZATION and node.attributes.get("training_mode"):
            return emit_trained_batch_normalization(graph, replace(node, outputs=outputs[:1]), {})
        faster = emit_faster(graph, replace(node, outputs=outputs), trained=True)
        if faster is not None:
            return faster
        name = next(name for name in outputs if name)
        proto = helper.make_node(node.operator, node.inputs, outputs, name=name, **node.attributes)
        graph.copy(proto, [graph.shape(name) if name else None for name in original.outputs])
        return replace(node, outputs=outputs)

    def _seen(self, name: str, names: dict[str, str], gradient: str) -> str:
        """A tensor as the second pass reads it: computed again, constant, or kept but only to be had with a gradient.

        Without the last, the runtime could compute everything again at once, long before it is needed.
        """
        graph = self._graph
        if name not in names:
            free = not name or graph.value(name) is not None or name.startswith((PARAMETER, BUFFER))
            names[name] = name if free else self._after(name, gradient)
        return names[name]

    def _after(self, name: str, gradient: str) -> str:
        """The tensor itself, in a shape that depends on the gradient's in nothing but time."""
        graph = self._graph
        nothing = graph.emit("Mul", graph.emit("Shape", gradient, start=0, end=1), graph.integers(0))
        shape = graph.emit("Add", graph.emit("Shape", name), nothing)
        return graph.refine(graph.emit("Reshape", name, shape, allowzero=1), graph.shape(name))


def cut(graph: GraphBuilder, nodes: Sequence[Node], count: int) -> list[range]:
    """Cut a tape into `count` segments of about equal results, each where least crosses.

    Args:
        graph: That the tape was traced into.
        nodes: The tape's.
        count: At least 2.

    Returns:
        The segments to compute again: all but the last, whose gradients come first.
    """
    results = [{name: graph.bytes_of(name, {}) for name in node.outputs if name} for node in nodes]
    crossing = _crossing(nodes, results)
    reached = list(accumulate(sum(each.values()) for each in results))
    cuts = [0]
    for part in range(1, count):
        target = reached[-1] * part / count
        near = [
            index
            for index, value in enumerate(reached)
            if abs(value - target) <= reached[-1] / (4 * count) and index >= cuts[-1]
        ]
        if near:
            cuts.append(1 + min(near, key=lambda index: (crossing[index], index)))
    return [range(start, stop) for start, stop in pairwise(cuts)]


def _crossing(nodes: Sequence[Node], results: Sequence[Mapping[str, int]]) -> list[int]:
    """Behind each node, the bytes that were made so far and are read later."""
    last = {name: index for index, node in enumerate(nodes) for name in node.inputs}
    alive, crossing, ending = 0, [], [0] * len(nodes)
    for index, made in enumerate(results):
        for name, size in made.items():
            if last.get(name, index) > index:
                alive += size
                ending[last[name]] += size
        alive -= ending[index]
        crossing.append(alive)
    return crossing
