"""Reductions, normalisation and softmax."""

import torch
import torch.nn.functional as F


def trained(x, *operands):
    # Of the buffers PyTorch renews copies, which has a test of its own.
    scale, bias, mean, variance = operands
    return F.batch_norm(x, mean.detach().clone(), variance.detach().clone(), scale, bias, training=True, eps=0.01)


PYTORCH = {
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
    "reduce_l1": lambda x: x.abs().sum((1, 3), keepdim=True),
    "reduce_l2": lambda x: torch.linalg.vector_norm(x, dim=(1, 2)),
    "reduce_sum_square": lambda x: (x * x).sum(0),
    "reduce_log_sum": lambda x: x.sum(3, keepdim=True).log(),
    "reduce_log_sum_exp": lambda x: torch.logsumexp(x, -1),
    "reduce_max": lambda x: torch.amax(x, (1, 2)),
    "reduce_min": lambda x: torch.amin(x, 3, keepdim=True),
    "reduce_max_attribute": lambda x: torch.amax(x, 1, keepdim=True),
    "reduce_prod": lambda x: torch.prod(x, 1, keepdim=True),
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
    "lp_normalization": lambda x: F.normalize(x, dim=1),
    "lp_normalization_l1": lambda x: F.normalize(x, p=1, dim=-1),
    "lp_normalization_old": F.normalize,
    "lrn": lambda x: F.local_response_norm(x, 3, 0.9, 0.6, 1.5),
}
