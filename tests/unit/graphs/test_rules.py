"""Every gradient rule against central finite differences, through ONNX Runtime, at two sizes of the same graph."""

import numpy as np
import pytest

from shoal_core.graphs.rules.registry import RULES
from tests.unit.graphs.cases import CASES, Case, Gradients


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_gradient_equals_finite_differences(case: Case):
    gradients = Gradients(case)
    # Operators with kernels for float32 only are (piecewise) linear in each operand: a large step has no error.
    change, tolerance = (0.0625, 1e-4) if case.single else (1e-6, 1e-7)
    if case.name == "cast":
        change, tolerance = 0.0625, 1e-5
    for sizes in case.sizes:
        operands = case.operands(sizes)
        seed = np.random.default_rng(1).uniform(-1, 1, gradients.value(operands).shape)
        seed = np.asarray(seed, dtype=case.dtype)
        for index, found in enumerate(gradients.of(operands, seed)):
            expected = finite_differences(gradients, operands, index, seed, change)
            assert found.dtype == case.dtype
            np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def finite_differences(gradients, operands, index, seed, change):
    """d sum(output * seed) / d operand, element by element, summed in float64."""
    slopes = np.zeros(operands[index].shape)
    for place in np.ndindex(*operands[index].shape):
        totals = []
        for sign in (1, -1):
            moved = [operand.copy() for operand in operands]
            moved[index][place] += sign * change
            totals.append(np.sum(gradients.value(moved).astype(np.float64) * seed.astype(np.float64)))
        slopes[place] = (totals[0] - totals[1]) / (2 * change)
    return slopes


def test_every_rule_has_a_case():
    used = {node.op_type for case in CASES for node in case.forward().graph.node}
    assert set(RULES) <= used
