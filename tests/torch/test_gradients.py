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


def rounded(x):
    return x + sum(f(3 * x) for f in (torch.floor, torch.ceil, torch.round, torch.sign))


def trained(x, *operands):
    # Of the buffers PyTorch renews copies, which has a test of its own.
    scale, bias, mean, variance = operands
    return F.batch_norm(x, mean.detach().clone(), variance.detach().clone(), scale, bias, training=True, eps=0.01)


def module(kind, count, bidirectional=False, **options):
    """PyTorch's recurrent module on ONNX's operands; its gates lie in another order."""
    order = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}[kind]

    def reordered(tensor):
        return torch.cat([tensor[2 * gate : 2 * gate + 2] for gate in order])

    def run(x, w, r, *rest):
        bias = rest[0] if rest else torch.zeros(len(w), 4 * len(order))
        states = rest[1:] or [torch.zeros(len(w), x.shape[1], 2)] * (2 if kind == "LSTM" else 1)
        weights = []
        for way in range(len(w)):
            b_w, b_r = bias[way].chunk(2)
            weights += [reordered(w[way]), reordered(r[way]), reordered(b_w), reordered(b_r)]
        net = getattr(torch.nn, kind)(3, 2, bidirectional=bidirectional)
        names = [name for name, _ in net.named_parameters()]
        start = tuple(states) if kind == "LSTM" else states[0]
        output, last = torch.func.functional_call(net, dict(zip(names, weights, strict=True)), (x, start))
        if count:
            return last[count - 1] if kind == "LSTM" else last
        return output.reshape(*output.shape[:2], len(w), 2).transpose(1, 2)

    return run


def reversed_cells(x, *operands):
    # Backwards is forwards on the reversed sequence.
    return module("LSTM", 2)(torch.flip(x, (0,)), *operands)


def reset_before(x, w, r, *rest):
    """The original GRU, which PyTorch doesn't have."""
    outputs = []
    for way in range(len(w)):
        b_w, b_r = rest[0][way].chunk(2) if rest else (torch.zeros(6), torch.zeros(6))
        h = rest[1][way] if len(rest) > 1 else torch.zeros(x.shape[1], 2)
        steps = list(x.flip(0) if way else x)
        hidden = []
        for part in steps:
            a_z, a_r, a_n = (part @ w[way].T + b_w).chunk(3, 1)
            s_z, s_r = (h @ r[way][:4].T + b_r[:4]).chunk(2, 1)
            z, reset = torch.sigmoid(a_z + s_z), torch.sigmoid(a_r + s_r)
            new = torch.tanh(a_n + (reset * h) @ r[way][4:].T + b_r[4:])
            h = (1 - z) * new + z * h
            hidden.append(h)
        outputs.append(torch.stack(hidden[::-1] if way else hidden))
    return torch.stack(outputs, 1)


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
    "sum": lambda a, b, c: a + b + c,
    "mean": lambda a, b, c: (a + b + c) / 3,
    "max": lambda a, b, c: torch.maximum(torch.maximum(a, b), c),
    "min": torch.minimum,
    "max_equal": lambda x: torch.maximum(x, x * 1),
    "rounded": rounded,
    "reciprocal": torch.reciprocal,
    "sin": torch.sin,
    "cos": torch.cos,
    "cast_like": lambda x: x * 1,
    "dropout": lambda x: F.dropout(x, 0.3, training=False) * 1,
    "elu": lambda x: F.elu(x, 0.7),
    "selu": torch.selu,
    "celu": lambda x: F.celu(x, 0.7),
    "hard_sigmoid": lambda x: (0.5 * x + 0.75).clamp(0, 1),
    "hard_swish": F.hardswish,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "erf": torch.erf,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "mish": F.mish,
    "prelu": lambda x, slope: F.prelu(x, slope.reshape(-1)),
    "reduce_l1": lambda x: x.abs().sum((1, 3), keepdim=True),
    "reduce_l2": lambda x: torch.linalg.vector_norm(x, dim=(1, 2)),
    "reduce_sum_square": lambda x: (x * x).sum(0),
    "reduce_log_sum": lambda x: x.sum(3, keepdim=True).log(),
    "reduce_log_sum_exp": lambda x: torch.logsumexp(x, -1),
    "reduce_max": lambda x: torch.amax(x, (1, 2)),
    "reduce_min": lambda x: torch.amin(x, 3, keepdim=True),
    "reduce_max_attribute": lambda x: torch.amax(x, 1, keepdim=True),
    "reduce_prod": lambda x: torch.prod(x, 1, keepdim=True),
    "reverse_sequence": lambda x: torch.stack(
        [torch.cat([x[:steps, n].flip(0), x[steps:, n]]) for n, steps in enumerate((1, 3, 5))], 1
    ),
    "reverse_sequence_batch_first": lambda x: torch.stack([x[0].flip(0), torch.cat([x[1, :2].flip(0), x[1, 2:]])]),
    "cum_sum": lambda x: torch.cumsum(x, 1),
    "cum_sum_back": lambda x: torch.cumsum(x.flip(1), 1).flip(1) - x,
    "global_max_pool": lambda x: torch.amax(x, (2, 3), keepdim=True),
    # ONNX pads only before the first axis; the windows there average what lies inside.
    "average_pool_ceil": lambda x: (
        F.avg_pool2d(padded(x, 0, 0, 1, 0), (2, 3), ceil_mode=True) * torch.tensor([2.0, 1, 1, 1])[:, None]
    ),
    "average_pool_ceil_count_pads": lambda x: F.avg_pool2d(x, 3, stride=2, padding=1, ceil_mode=True),
    "batch_normalization": lambda x, scale, bias: F.batch_norm(
        x, torch.tensor([0.2, -0.1]), torch.tensor([0.5, 1.5]), scale, bias, eps=0.01
    ),
    "batch_normalization_trained": trained,
    "batch_normalization_trained_flat": lambda x, scale, bias, *_: F.batch_norm(
        x, None, None, scale, bias, training=True, eps=0.3
    ),
    "layer_normalization": lambda x, scale, bias: F.layer_norm(x, (6, 7), scale, bias),
    "layer_normalization_single": lambda x, scale: F.layer_norm(x, (7,), scale, eps=0.01),
    "instance_normalization": lambda x, scale, bias: F.instance_norm(x, weight=scale, bias=bias),
    "group_normalization": lambda x, scale, bias: F.group_norm(x, 3, scale, bias),
    "gather_elements": lambda x: torch.gather(x[:2], 1, torch.tensor([[3, 0, 3], [1, 3, 2]])),
    "gather_nd": lambda x: x[[[1, 0], [1, 0]], [[1, -1], [1, 0]]],
    "gather_nd_batch": lambda x: x[[[0, 0], [1, 1]], [[3, 0], [3, 0]]],
    "scatter_nd": lambda x, updates: x.index_put((torch.tensor([4, 1]),), updates),
    "scatter_nd_add": lambda x, updates: x.index_put((torch.tensor([4, 4]),), updates, accumulate=True),
    "scatter_elements": lambda x, updates: torch.scatter(x, 1, torch.tensor([[3, 0], [1, 3]]), updates),
    "scatter_elements_add": lambda x, updates: torch.scatter_add(x, 1, torch.tensor([[3, 3], [1, 3]]), updates),
    "top_k": lambda x: torch.topk(x, 3, 2).values,
    "tile": lambda x: x.repeat(2, 3),
    "trilu": lambda x: torch.tril(x, 1),
    "depth_to_space": lambda x: F.pixel_shuffle(x.unflatten(1, (4, 2)).transpose(1, 2).flatten(1, 2), 2),
    "depth_to_space_crd": lambda x: F.pixel_shuffle(x, 2),
    "space_to_depth": lambda x: F.pixel_unshuffle(x, 2).unflatten(1, (2, 4)).transpose(1, 2).flatten(1, 2),
    "resize": lambda x: F.interpolate(x, scale_factor=(2.0, 3.0), mode="nearest"),
    "resize_smaller": lambda x: x[:, :, ::2],
    "einsum_attention": lambda a, b: torch.einsum("bhqd,bhkd->bhqk", a, b),
    "einsum_three": lambda *x: torch.einsum("ni,ij,jk->nk", *x),
    "einsum_implicit": lambda a, b: torch.einsum("zi,ij", a, b),
    "einsum_summed": lambda a, b: torch.einsum("ni,ij->n", a, b),
    "lstm": module("LSTM", 0),
    "lstm_plain": module("LSTM", 0),
    "lstm_both": module("LSTM", 0, bidirectional=True),
    "lstm_last": module("LSTM", 1),
    "lstm_cell_reverse": reversed_cells,
    "gru": reset_before,
    "gru_plain": reset_before,
    "gru_both": reset_before,
    "gru_after": module("GRU", 0),
    "gru_after_both": module("GRU", 0, bidirectional=True),
    "gru_last": module("GRU", 1),
    "rnn_both": module("RNN", 0, bidirectional=True),
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
