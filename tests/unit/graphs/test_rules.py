"""Every gradient rule against central finite differences, through ONNX Runtime, at two sizes of the same graph."""

import numpy as np
import pytest

from shoal_core.graphs.rules.registry import RULES
from tests.unit.graphs.cases import CASES, Case, Gradients


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_gradient_equals_finite_differences(case: Case):
    gradients = Gradients(case)
    # In float32 a large step loses little to rounding.
    change, tolerance = (2**-5, 1e-4) if case.single or case.name == "cast" else (1e-4, 1e-8)
    for sizes in case.sizes:
        operands = case.operands(sizes)
        seed = np.random.default_rng(1).uniform(-1, 1, gradients.value(operands).shape)
        seed = np.asarray(seed, dtype=case.dtype)
        for index, found in enumerate(gradients.of(operands, seed)):
            expected = finite_differences(gradients, operands, index, seed, change)
            assert found.dtype == case.dtype
            np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def finite_differences(gradients, operands, index, seed, change):
    """d sum(output * seed) / d operand, element by element, summed in float64; the error falls with change^4."""
    slopes = np.zeros(operands[index].shape)
    for place in np.ndindex(*operands[index].shape):
        totals = []
        for distance in (1, -1, 2, -2):
            moved = [operand.copy() for operand in operands]
            moved[index][place] += distance * change
            totals.append(np.sum(gradients.value(moved).astype(np.float64) * seed.astype(np.float64)))
        slopes[place] = (8 * (totals[0] - totals[1]) - (totals[2] - totals[3])) / (12 * change)
    return slopes


def test_every_rule_has_a_case():
    used = {node.op_type for case in CASES for node in case.forward().graph.node}
    assert set(RULES) <= used


@pytest.mark.parametrize(
    ("name", "axes"), [("reduce_max", (1, 2)), ("reduce_min", (3,)), ("global_max_pool", (2, 3))], ids=str
)
def test_equal_extremes_share_the_gradient(name, axes):
    case = next(case for case in CASES if case.name == name)
    gradients = Gradients(case)
    operand = np.ones((2, 2, 6, 7), dtype=case.dtype)
    seed = np.ones_like(gradients.value([operand]))
    (found,) = gradients.of([operand], seed)
    np.testing.assert_allclose(found, 1 / np.prod([operand.shape[axis] for axis in axes]), rtol=1e-6)
