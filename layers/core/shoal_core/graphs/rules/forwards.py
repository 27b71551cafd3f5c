"""Forward nodes that a training step runs in another form than their own, because that trains faster."""

from __future__ import annotations

from shoal_core.graphs.builder import GraphBuilder
from shoal_core.graphs.rules.blocked import emit_convolution, runs_in_blocks
from shoal_core.graphs.rules.lstm import emit_loop, runs_in_a_loop
from shoal_core.graphs.rules.pooling import emit_pairs, pools_pairs
from shoal_core.graphs.rules.rule import Node


def emit_faster(graph: GraphBuilder, node: Node, trained: bool) -> Node | None:
    """Emit a node in its faster form.

    Args:
        graph: Where to emit.
        node: With the names of its inputs and outputs.
        trained: Whether a gradient goes through it.

    Returns:
        The node for the tape, or None, and nothing emitted, where the node's own form is the best.
    """
    if runs_in_blocks(graph, node):
        return emit_convolution(graph, node)
    if trained and runs_in_a_loop(graph, node):
        return emit_loop(graph, node)
    if trained and pools_pairs(graph, node):
        return emit_pairs(graph, node)
    return None
