"""How much memory a step takes at its worst moment, told from its graph before anything runs.

ONNX Runtime frees a tensor behind its last reader: walking the nodes once and adding up what is alive finds the peak.
Its own order differs from the one in which nodes were emitted (from the outputs backwards, each operand before its
reader), but for a training step the two come to the same peak within a tenth.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx

from shoal_core.graphs.builder import GraphBuilder, read_by

# The result is the first operand, seen in another shape.
_VIEWS = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
# The result may take the place of an operand that nobody reads afterwards.
_IN_PLACE = frozenset({"Add", "Div", "Mul", "Neg", "Relu", "Reciprocal", "Sigmoid", "Sqrt", "Sub", "Sum", "Tanh"})


@dataclass(frozen=True)
class StepMemory:
    """Bytes of a step.

    Attributes:
        held: The graph's inputs, which the caller holds all the time.
        peak: The most bytes that are alive at once beside them.
        operator: What ran at that moment.
    """

    held: int
    peak: int
    operator: str

    @property
    def total(self) -> int:
        """Everything at the worst moment."""
        return self.held + self.peak


def step_memory(graph: GraphBuilder, sizes: Mapping[str, int]) -> StepMemory:
    """Add up what is alive at every node.

    Args:
        graph: The whole step, its outputs declared.
        sizes: Of the symbolic dimensions, such as the batch `N`.
    """
    nodes = graph.needed_nodes()
    source = _sources(nodes)
    last = {source.get(name, name): index for index, node in enumerate(nodes) for name in read_by(node)}
    last |= {source.get(name, name): len(nodes) for name in graph.outputs}
    made = {name for node in nodes for name in node.output if name}
    ending: dict[int, list[str]] = defaultdict(list)
    for name, index in last.items():
        if name in made:
            ending[index].append(name)
    alive, peak, operator = 0, 0, ""
    for index, node in enumerate(nodes):
        new = [name for name in node.output if name and name not in source]
        before, ended = alive, [graph.bytes_of(name, sizes) for name in ending[index]]
        alive += sum(graph.bytes_of(name, sizes) for name in new)
        most = alive
        if node.op_type in _IN_PLACE and alive - before in ended:
            most = before
        if most > peak:
            peak, operator = most, node.op_type
        alive -= sum(ended) + sum(graph.bytes_of(name, sizes) for name in new if name not in last)
    held = sum(graph.bytes_of(name, sizes) for name in graph.inputs)
    return StepMemory(held, peak, operator)


def _sources(nodes: Sequence[onnx.NodeProto]) -> dict[str, str]:
    """For each view the tensor that it is a view of."""
    source: dict[str, str] = {}
    for node in nodes:
        if node.op_type in _VIEWS:
            source[node.output[0]] = source.get(node.input[0], node.input[0])
    return source
