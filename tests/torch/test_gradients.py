"""The gradient rules' cases against PyTorch's own autograd."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.unit.graphs.cases import CASES, Case, Gradients

pytestmark = pytest.mark.torch


def padded(x, *pads, value=0.0):
    return F.pad(x, pads, value=value)


def split(x):
    first, _, last = torch.split(x, [1, 2, 2], dim=1)
    return first * last


def strided_backwards(x):
    # PyTorch has no negative steps.
    return torch.flip(x, (2,))[:, :, ::2, 1:6:3]


# What PyTorch computes in each case; an operand that is only indexed or shaped comes first.
PYTORCH = {
    "abs": torch.abs,
    "neg": torch.neg,
    "sqrt": torch.sqrt,
    "exp": torch.exp,
    "log": torch.log,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "identity": lambda x: x * 1,
    "cast": lambda x: x.float().double(),
    "clip": lambda x: x.clamp(-0.5, 0.7),
    "clip_above": lambda x: x.clamp(max=0.3),
    "add": torch.add,
    "add_row": torch.add,
    "add_twice": lambda x: x + x,
    "sub_column": torch.sub,
    "sub_from_row": torch.sub,
    "mul": torch.mul,
    "mul_outer": torch.mul,
    "mul_scalar": torch.mul,
    "mul_square": lambda x: x * x,
    "mul_unknown": torch.mul,
    "mul_unknown_rank": torch.mul,
    "div": torch.div,
    "div_column": torch.div,
    "pow_square": lambda x: x**2,
    "pow_cube": lambda x: x**3,
    "pow": torch.pow,
    "where": lambda a, b: torch.where(a > b, a, b),
    "matmul": torch.matmul,
    "matmul_turned": torch.matmul,
    "matmul_batch": torch.matmul,
    "matmul_both_batch": torch.matmul,
    "matmul_broadcast": torch.matmul,
    "matmul_left_matrix": torch.matmul,
    "matmul_vector": torch.matmul,
    "matmul_vector_left": torch.matmul,
    "matmul_vectors": torch.matmul,
    "gemm": lambda a, b, c: a @ b + c,
    "gemm_no_bias": torch.matmul,
    "gemm_a": lambda a, b, c: 0.5 * a.T @ b + 2 * c,
    "gemm_b": lambda a, b, c: 2 * a @ b.T + c,
    "gemm_ab": lambda a, b: a.T @ b.T,
    "conv": lambda x, w, b: F.conv2d(x, w, b, padding=1),
    "conv_strides": lambda x, w: F.conv2d(padded(x, 1, 1, 0, 2), w, stride=(2, 3)),
    "conv_dilations": lambda x, w: F.conv2d(x, w, dilation=(3, 2)),
    "conv_groups": lambda x, w, b: F.conv2d(x, w, b, padding=1, groups=2),
    "conv_depthwise": lambda x, w: F.conv2d(x, w, groups=3),
    # 6x7 with kernel 3x2 and stride 2: one element is missing along each axis.
    "conv_same_upper": lambda x, w: F.conv2d(padded(x, 0, 1, 0, 1), w, stride=2),
    "conv_same_lower": lambda x, w: F.conv2d(padded(x, 1, 0, 1, 0), w, stride=2),
    "conv_valid": F.conv2d,
    "conv_pointwise": F.conv2d,
    "conv_many_channels": F.conv2d,
    "conv_many_channels_groups": lambda x, w: F.conv2d(x, w, groups=2),
    "conv_joined": F.conv2d,
    "conv_1d": lambda x, w, b: F.conv1d(x, w, b, stride=2, padding=1),
    "conv_3d": F.conv3d,
    "max_pool": lambda x: F.max_pool2d(x, 2),
    "max_pool_double": lambda x: F.max_pool2d(x, 2),
    "max_pool_overlap": lambda x: F.max_pool2d(x, 3, stride=(2, 1), padding=1),
    "max_pool_ceil": lambda x: F.max_pool2d(x, 2, ceil_mode=True),
    "max_pool_dilated": lambda x: F.max_pool2d(x, 2, stride=2, dilation=(2, 3)),
    "average_pool": lambda x: F.avg_pool2d(x, 2),
    "average_pool_pads": lambda x: F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False),
    "average_pool_count_pads": lambda x: F.avg_pool2d(padded(x, 0, 1, 1, 1), (3, 2), stride=1),
    "global_average_pool": lambda x: x.mean((2, 3), keepdim=True),
    "global_average_pool_unknown": lambda x: x.mean((2, 3), keepdim=True),
    "reshape": lambda x: x.reshape(x.shape[0], -1),
    "reshape_unknown": lambda x: x.reshape(-1),
    "flatten": lambda x: x.reshape(x.shape[0] * x.shape[1], -1),
    "squeeze": lambda x: x[:, 0, :, 0],
    "unsqueeze": lambda x: x[None, :, None],
    "transpose": lambda x: x.permute(2, 0, 3, 1),
    "transpose_reversed": lambda x: x.permute(2, 1, 0),
    "expand": lambda x: x[None].expand(2, x.shape[0], 4, 3),
    "expand_unknown": lambda a, b: a.expand_as(b) * b,
    "concat": lambda *x: torch.cat(x, -1),
    "concat_batch": lambda *x: torch.cat(x, 0),
    "split": split,
    "slice": lambda x: x[:, :, 1:, -5:-1],
    "slice_batch": lambda x: x[1:3],
    "slice_steps": strided_backwards,
    "pad": lambda x: padded(x, 0, 2, 1, 0, value=3.0),
    "pad_crop": lambda x: padded(x, 2, -2, -1, 1),
    "pad_axes": lambda x: padded(x, 1, 2),
    "gather_rows": lambda x: x[torch.tensor([[0, 3], [3, -1]])],
    "gather_columns": lambda x: x[:, [3, 1, 1]],
    "gather_one": lambda x: x[:, 2],
    "reduce_sum": lambda x: x.sum((1, 3), keepdim=True),
    "reduce_sum_squeezed": lambda x: x.sum((0, 2)),
    "reduce_sum_all": torch.sum,
    "reduce_sum_none": lambda x: x * 1,
    "reduce_mean": lambda x: x.mean((0, 1)),
    "reduce_mean_all": lambda x: x.mean((0, 1), keepdim=True),
    "softmax": lambda x: F.softmax(x, -1),
    "softmax_axis": lambda x: F.softmax(x, 1),
    "log_softmax": lambda x: F.log_softmax(x, -1),
    "log_softmax_axis": lambda x: F.log_softmax(x, -2),
}


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
        for gradient, leaf in zip(gradients.of(operands, seed), leaves, strict=True):
            np.testing.assert_allclose(gradient, leaf.grad.numpy(), rtol=1e-5, atol=1e-5)
