"""The gradient rules' cases against PyTorch's own autograd."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.torch.mirrors import elementwise, moving, products, recurrent, statistics, windows
from tests.unit.graphs.cases import CASES, Case, Gradients

pytestmark = pytest.mark.torch

# In the order of the cases.
MIRRORS = (elementwise, products, windows, statistics, moving, recurrent)
PYTORCH = {name: mirror for module in MIRRORS for name, mirror in module.PYTORCH.items()}


def test_every_case_is_compared():
    assert [case.name for case in CASES] == list(PYTORCH)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_gradient_equals_pytorch(case: Case):
    gradients = Gradients(case)
    for sizes in case.sizes:
        operands = case.operands(sizes)
        leaves = [torch.from_numpy(operand.copy()).requires_grad_() for operand in operands]
        output = PYTORCH[case.name](*leaves)
        found = gradients.value(operands)
        np.testing.assert_allclose(found, output.detach().numpy(), rtol=1e-5, atol=1e-5)
        seed = np.asarray(np.random.default_rng(1).uniform(-1, 1, found.shape), dtype=case.dtype)
        output.backward(torch.from_numpy(seed))
        # The last operands may be buffers.
        for gradient, leaf in zip(gradients.of(operands, seed), leaves, strict=False):
            np.testing.assert_allclose(gradient, leaf.grad.numpy(), rtol=1e-5, atol=1e-5)


def test_running_statistics_equal_pytorch():
    case = next(case for case in CASES if case.name == "batch_normalization_trained")
    gradients = Gradients(case)
    for sizes in case.sizes:
        x, _scale, _bias, mean, variance = operands = case.operands(sizes)
        renewed = gradients.renewed(operands, np.zeros_like(gradients.value(operands)))
        expected = [torch.from_numpy(buffer.copy()) for buffer in (mean, variance)]
        # PyTorch's momentum is the share of the new.
        F.batch_norm(torch.from_numpy(x), *expected, training=True, momentum=0.2)
        for buffer, tensor in zip(renewed, expected, strict=True):
            np.testing.assert_allclose(buffer, tensor.numpy(), rtol=1e-7, atol=1e-9)
