"""Loops over the first axis of tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from onnx import helper

from shoal_core.graphs.builder import GraphBuilder

# One turn of a loop: from a builder, the carried tensors and the turn's parts to the new carried ones and the results.
Turn = Callable[[GraphBuilder, Sequence[str], Sequence[str]], tuple[Sequence[str], Sequence[str]]]


def loop(
    graph: GraphBuilder, turn: Turn, carried: Sequence[str], scanned: Sequence[str], backwards: bool = False
) -> tuple[list[str], list[str]]:
    """Emit a loop over the first axis of some tensors, a `Scan`.

    Args:
        graph: Where to emit.
        turn: Emits one turn. It gets a builder, the carried tensors and this turn's parts of the scanned ones, and
            returns the new carried tensors and the turn's results. It may read any tensor of the graph.
        carried: The first values of what a turn hands to the next; shapes stay the same.
        scanned: Tensors [T, ...].
        backwards: Whether to go from the last turn to the first; results lie in the order of `scanned` anyway.

    Returns:
        The carried tensors after the last turn, and each result for all turns, [T, ...].
    """
    inner = graph.nested()
    parts = [(name, graph.shape(name)) for name in carried] + [(name, graph.shape(name)[1:]) for name in scanned]
    names = [inner.input(inner.new_output("part"), graph.element_type(outer), inside) for outer, inside in parts]
    new, results = turn(inner, names[: len(carried)], names[len(carried) :])
    for name in (*new, *results):
        # A loop's outputs must come from its own nodes and differ from each other.
        fit = inner.makes(name) and name not in inner.outputs
        inner.output(name if fit else inner.emit("Identity", name, output=inner.new_output("result")))
    turns = graph.shape(scanned[0])[0]
    shapes = [graph.shape(name) for name in carried]
    shapes += [(turns, *inner.shape(name)) for name in inner.outputs[len(carried) :]]
    types = [inner.element_type(name) for name in inner.outputs]
    outer_names = [graph.new_output("scan") for _ in inner.outputs]
    node = helper.make_node(
        "Scan",
        [*carried, *scanned],
        outer_names,
        name=outer_names[0],
        body=inner.graph("turn"),
        num_scan_inputs=len(scanned),
        scan_input_directions=[int(backwards)] * len(scanned),
        scan_output_directions=[int(backwards)] * len(results),
    )
    graph.append(node, list(zip(types, shapes, strict=True)))
    return outer_names[: len(carried)], outer_names[len(carried) :]
