"""What a foreign model may be at most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MB = 1024**2
DOMAINS: Mapping[str, tuple[int, int]] = {"": (7, 22), "ai.onnx": (7, 22), "ai.onnx.ml": (1, 4)}
"""Operator domains that are allowed, with their oldest and newest version."""


@dataclass(frozen=True)
class Limits:
    """Limits of a foreign model, and of the process that tries it.

    Attributes:
        model_bytes: Size of its file: what the predict function loads beside others.
        tensor_bytes: Size of any tensor, as its shape declares it.
        nodes: Nodes, those of subgraphs included.
        depth: How deep subgraphs (of If, Loop, Scan) may be nested.
        values: Inputs or outputs of a graph.
        ir_versions: The oldest and newest version of the file format.
        memory_bytes: What the trial may take on top of the libraries and the file.
        cpu_seconds: CPU time of the trial.
        wall_seconds: Time of the trial.
    """

    model_bytes: int = 256 * MB
    tensor_bytes: int = 512 * MB
    nodes: int = 100_000
    depth: int = 8
    values: int = 256
    ir_versions: tuple[int, int] = (3, 10)
    memory_bytes: int = 1280 * MB
    cpu_seconds: int = 60
    wall_seconds: int = 90
