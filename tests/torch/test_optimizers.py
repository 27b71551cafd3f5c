"""Optimizers, clipping and losses against PyTorch's own."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from shoal_core.graphs.losses import AbsoluteError, CrossEntropy, Focal, Huber, SquaredError
from shoal_core.graphs.optimizers import Adam, AdamW, Sgd
from tests.unit.graphs.test_losses import WEIGHTS, evaluate
from tests.unit.graphs.test_optimizers import SHAPES, steps, tensors

pytestmark = pytest.mark.torch

RATE, STEPS = 0.01, 20
WEIGHT, BIAS = SHAPES
OPTIMIZERS = {
    "sgd": (Sgd(weight_decay=0.1), torch.optim.SGD, {"momentum": 0.9}),
    "nesterov": (Sgd(nesterov=True, weight_decay=0.1), torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "plain": (Sgd(momentum=0.0), torch.optim.SGD, {}),
    "clipped": (Sgd(weight_decay=0.1, clip_norm=1.0), torch.optim.SGD, {"momentum": 0.9}),
    "adam": (Adam(weight_decay=0.1), torch.optim.Adam, {}),
    "adam_clipped": (Adam(clip_norm=0.5), torch.optim.Adam, {}),
    "adamw": (AdamW(), torch.optim.AdamW, {}),
    "adamw_betas": (AdamW(weight_decay=0.3, beta1=0.8, beta2=0.9), torch.optim.AdamW, {"betas": (0.8, 0.9)}),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_equal_pytorch(name):
    ours, theirs, arguments = OPTIMIZERS[name]
    leaves = {key: torch.from_numpy(value).requires_grad_() for key, value in tensors(0).items()}
    groups = [
        {"params": [leaves[WEIGHT]], "weight_decay": ours.weight_decay},
        {"params": [leaves[BIAS]], "weight_decay": 0.0},
    ]
    optimizer = theirs(groups, lr=RATE, **arguments)
    for step, found in enumerate(steps(ours, STEPS, RATE), 1):
        for key, gradient in tensors(step).items():
            leaves[key].grad = torch.from_numpy(gradient)
        if ours.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(list(leaves.values()), ours.clip_norm)
        optimizer.step()
        for key, leaf in leaves.items():
            np.testing.assert_allclose(found[key], leaf.detach().numpy(), atol=5e-6, err_msg=f"{key}, step {step}")


def focal(logits, target):
    """As torchvision writes it, for the softmax."""
    loss = F.cross_entropy(logits, target, reduction="none")
    return (torch.tensor(WEIGHTS)[target] * (1 - torch.exp(-loss)) ** 2 * loss).mean()


def weighted(logits, target):
    """PyTorch's mean is over the weights, ours over the samples."""
    total = F.cross_entropy(logits, target, torch.tensor(WEIGHTS), reduction="sum", label_smoothing=0.1)
    return total / len(target)


LOSSES = {
    "cross_entropy": (CrossEntropy(), F.cross_entropy),
    "smoothed": (CrossEntropy(label_smoothing=0.1), lambda x, t: F.cross_entropy(x, t, label_smoothing=0.1)),
    "weighted": (CrossEntropy(WEIGHTS, 0.1), weighted),
    "focal": (Focal(2.0, WEIGHTS), focal),
    "squared": (SquaredError(), lambda x, t: F.mse_loss(x[:, 0], t)),
    "absolute": (AbsoluteError(), lambda x, t: F.l1_loss(x[:, 0], t)),
    "huber": (Huber(delta=0.7), lambda x, t: F.huber_loss(x[:, 0], t, delta=0.7)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_equal_pytorch(name):
    ours, theirs = LOSSES[name]
    random = np.random.default_rng(3)
    classes = isinstance(ours, CrossEntropy | Focal)
    output = random.normal(size=(9, 3 if classes else 1)).astype(np.float32)
    target = random.integers(0, 3, 9) if classes else random.normal(size=9).astype(np.float32)
    leaf = torch.from_numpy(output.copy()).requires_grad_()
    expected = theirs(leaf, torch.from_numpy(target))
    expected.backward()
    value, gradient = evaluate(ours, output, target)
    assert value == pytest.approx(expected.item(), rel=1e-5)
    np.testing.assert_allclose(gradient, leaf.grad.numpy(), atol=1e-6)
