"""The gradient rules' cases against `onnx-ad`, a second differentiation of ONNX graphs, which shares no code with them.

It wants fixed shapes, and doesn't differentiate every operator by every operand: what it can is compared.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
import onnx_ad
import onnxruntime
import pytest

from shoal_core.graphs.rules.registry import RULES
from shoal_core.graphs.table import ORACLE_PARTLY
from tests.unit.graphs.cases import CASES, Case, Gradients

pytestmark = pytest.mark.torch

PREFIX = "adjoint."
# What onnx-ad 0.3.0 gets wrong, where finite differences and PyTorch agree with ours.
WRONG = {
    "average_pool_count_pads": "other pads before than after",
    "conv_strides": "other pads before than after",
    "pad_crop": "negative pads: the graph doesn't run",
}


@cache
def oracle(name: str) -> tuple[onnxruntime.InferenceSession | None, tuple[str, ...]]:
    """A case's graph at its last size with its adjoint, and by which operands; None for what onnx-ad refuses."""
    case = next(case for case in CASES if case.name == name)
    if case.buffers:
        return None, ()
    model = fixed(case)
    operands = tuple(value.name for value in model.graph.input)
    for wanted in (operands, *((operand,) for operand in operands)):
        try:
            adjoint = onnx_ad.reverse(model, inputs=list(wanted), prefix=PREFIX, dim="seeds", layout="onnx")
        except onnx_ad.UnsupportedOperator:
            continue
        return onnxruntime.InferenceSession(adjoint.SerializeToString()), wanted
    return None, ()


def fixed(case: Case) -> onnx.ModelProto:
    """The case's graph for one size, all shapes told."""
    model = case.forward()
    sizes = case.sizes[-1]
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in sizes:
                dim.dim_value = sizes[dim.dim_param]
            elif dim.dim_param:  # of the output, known at run time only
                value.type.tensor_type.ClearField("shape")
                break
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


@pytest.mark.parametrize("case", [case for case in CASES if case.name not in WRONG], ids=lambda case: case.name)
def test_gradient_equals_the_oracles(case: Case):
    session, wanted = oracle(case.name)
    if session is None:
        pytest.skip("onnx-ad refuses it")
    gradients = Gradients(case)
    operands = case.operands(case.sizes[-1])
    seed = np.random.default_rng(1).uniform(-1, 1, gradients.value(operands).shape).astype(case.dtype)
    feeds = dict(zip(gradients.inputs, operands, strict=True))
    seed_name = next(value.name for value in session.get_inputs() if value.name.startswith(PREFIX))
    expected = session.run([PREFIX + name for name in wanted], {**feeds, seed_name: seed[..., None]})
    found = dict(zip(gradients.names, gradients.of(operands, seed), strict=True))
    for name, theirs in zip(wanted, expected, strict=True):
        np.testing.assert_allclose(found[name], theirs[..., 0], rtol=1e-5, atol=1e-5)


def test_the_document_says_what_the_oracle_was_asked():
    """An operator has the oracle's word where a case that uses it was compared, by all its operands or by some."""
    wholly: set[str] = set()
    partly: set[str] = set()
    trained: set[str] = set()
    for case in (case for case in CASES if case.name not in WRONG):
        session, wanted = oracle(case.name)
        trained |= {node.op_type for node in case.forward().graph.node} if case.buffers else set()
        if session is not None:
            used = {node.op_type for node in case.forward().graph.node}
            partly |= used
            wholly |= used if len(wanted) == len(case.shapes) else set()
    assert set(RULES) <= partly
    assert (set(RULES) - wholly) | trained == set(ORACLE_PARTLY)
