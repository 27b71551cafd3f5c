"""Whole training steps against PyTorch: the same loss and the same parameters after each step."""

import numpy as np
import pytest
import torch

from shoal_core.graphs.losses import loss_for
from shoal_core.graphs.optimizers import Adam, AdamW, Sgd, decays
from shoal_core.graphs.recipes import build_forward, default_config
from shoal_core.graphs.training_step import build_training_step
from tests.torch.networks import Buffers, loss
from tests.unit.graphs.networks import NETWORK_IDS, NETWORKS, SMALL, batch, load, prefixed, run

pytestmark = pytest.mark.torch

RATE = 0.001
# Ours, and PyTorch's with the same settings.
OPTIMIZERS = {
    "sgd": (Sgd(), lambda tensors: torch.optim.SGD(tensors, lr=RATE, momentum=0.9)),
    "adam": (Adam(), lambda tensors: torch.optim.Adam(tensors, lr=RATE)),
    "adamw": (AdamW(weight_decay=0.1), lambda tensors: torch.optim.AdamW(tensors, lr=RATE)),
}


CONFIGS = {
    "autoencoder": SMALL["autoencoder"],
    "cnn": {"channels": [3, 4], "convolutions": 2, "hidden": 5},
    "crnn": SMALL["crnn"] | {"pooling": "last", "cell": "lstm"},
    "fasttext": SMALL["fasttext"],
    "linear": {},
    "mlp": {"hidden": [5, 4]},
    "rnn": SMALL["rnn"] | {"layers": 2},
    "text-cnn": SMALL["text-cnn"],
    "transformer": SMALL["transformer"] | {"positions": "learned"},
    "resnet": {"channels": [4, 6], "blocks": 2, "normalization": "group", "groups": 2},
    "vgg": {"channels": [3, 4], "convolutions": 2, "hidden": 5},
}


# Their loss is flat along some parameters (attention doesn't see a key's bias), where rounding alone decides about the
# sign that Adam goes by; plain descent shows that all slopes agree.
TINY_SLOPES = ("crnn", "transformer")


@pytest.fixture
def one_thread():
    """Several wait for each other longer than they compute, with networks as small as these."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("size", ["small", "default"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("recipe", "signature"), NETWORKS, ids=NETWORK_IDS)
def test_steps_equal_pytorch(recipe, signature, optimizer, size):
    ours, theirs = OPTIMIZERS[optimizer]
    config = CONFIGS[recipe] if size == "small" else default_config(recipe, signature, 1400)
    full = default_config(recipe, signature, 1400) | config
    forward = build_forward(recipe, full, signature, seed=0)
    session = load(build_training_step(forward, loss_for(signature.task), ours))
    feeds = prefixed(forward)
    feeds |= {f"state.{slot}.{name}": np.zeros_like(x) for slot in ours.slots for name, x in forward.initial.items()}

    leaves = {name: torch.from_numpy(value.copy()).requires_grad_() for name, value in forward.initial.items()}
    buffers = Buffers(forward.buffers)
    decaying = {name for name, leaf in leaves.items() if decays(name, leaf.ndim)}
    groups = [
        {"params": [leaves[name] for name in leaves if name in decaying], "weight_decay": ours.weight_decay},
        {"params": [leaves[name] for name in leaves if name not in decaying], "weight_decay": 0.0},
    ]
    torch_optimizer = theirs(groups)
    for step in range(3):
        tensors = batch(signature, 6, seed=step)
        outputs = run(session, {**tensors, **feeds, "learning_rate": np.float32(RATE), "step": np.float32(step)})
        feeds = {name.removeprefix("new."): value for name, value in outputs.items() if name != "loss"}

        torch_optimizer.zero_grad()
        expected = loss(recipe, full, signature, tensors, leaves, buffers)
        expected.backward()
        torch_optimizer.step()
        for name, tensor in buffers.tensors.items():
            np.testing.assert_allclose(feeds[f"buffer.{name}"], tensor.numpy(), atol=1e-5 if step == 0 else 1e-3)
        assert outputs["loss"] == pytest.approx(expected.item(), rel=1e-5, abs=1e-5)
        if step == 0:
            # Later steps start from parameters that differ in the last bits already.
            for name, leaf in leaves.items():
                found, wanted = feeds[f"param.{name}"], leaf.detach().numpy()
                if recipe in TINY_SLOPES and optimizer != "sgd":
                    told = np.abs(leaf.grad.numpy()) > 1e-7
                    found, wanted = found[told], wanted[told]
                np.testing.assert_allclose(found, wanted, atol=1e-5, err_msg=name)


# One network of each recipe: the last one is small.
ONE_EACH = dict(NETWORKS)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("recipe", ONE_EACH)
def test_a_hundred_steps_stay_with_pytorch(recipe):
    signature = ONE_EACH[recipe]
    config = default_config(recipe, signature, 1400) | CONFIGS[recipe]
    forward = build_forward(recipe, config, signature, seed=0)
    session = load(build_training_step(forward, loss_for(signature.task), Sgd(momentum=0.9)))
    feeds = prefixed(forward)
    feeds |= {f"state.momentum.{name}": np.zeros_like(value) for name, value in forward.initial.items()}
    leaves = {name: torch.from_numpy(value.copy()).requires_grad_() for name, value in forward.initial.items()}
    buffers = Buffers(forward.buffers)
    descent = torch.optim.SGD(leaves.values(), lr=RATE, momentum=0.9)
    for step in range(100):
        tensors = batch(signature, 6, seed=step)
        outputs = run(session, {**tensors, **feeds, "learning_rate": np.float32(RATE), "step": np.float32(step)})
        feeds = {name.removeprefix("new."): value for name, value in outputs.items() if name != "loss"}
        descent.zero_grad()
        expected = loss(recipe, config, signature, tensors, leaves, buffers)
        expected.backward()
        descent.step()
        assert outputs["loss"] == pytest.approx(expected.item(), rel=1e-3, abs=1e-3)
    for name, leaf in leaves.items():
        np.testing.assert_allclose(feeds[f"param.{name}"], leaf.detach().numpy(), rtol=1e-3, atol=1e-3, err_msg=name)
