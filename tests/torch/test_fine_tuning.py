"""Fine-tuning the last blocks of a backbone that PyTorch exported: one step, beside PyTorch's own."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import fuse_conv_bn_eval

from shoal_core.data.config import DatasetConfig
from shoal_core.keys import RunKeys
from shoal_core.training.rounds import read_checkpoint, read_settings
from shoal_core.training.sessions import Session
from shoal_core.training.starting import start_training
from tests.support.backbones import bring
from tests.support.stores import MemoryStore
from tests.unit.training.datasets import DATASET, VERSION, commit, drawings, image_spec

RUN = "tuned"
SIDE = 12
RATE = 0.01


class Pretrained(nn.Module):
    """Three convolutions, two of them normalised, and a last layer for classes that nobody asks for any more."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.inner, self.inner_norm = nn.Conv2d(6, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8)
        self.outer = nn.Conv2d(8, 10, 3, padding=1)
        self.last = nn.Linear(10, 4)

    def before(self, image: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(self.stem(image)))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.inner_norm(self.inner(self.before(image))))
        return self.last(torch.relu(self.outer(x)).mean((2, 3)))


@pytest.fixture(scope="module")
def network() -> Pretrained:
    torch.manual_seed(7)
    found = Pretrained()
    with torch.no_grad():
        for _ in range(3):  # so that the statistics aren't those of a fresh layer
            found(torch.randn(32, 1, SIDE, SIDE) * 2 + 1)
    return found.eval()


def exported(network: Pretrained) -> bytes:
    file = io.BytesIO()
    batch = {"image": {0: torch.export.Dim("n")}}
    program = torch.onnx.export(
        network, (torch.randn(2, 1, SIDE, SIDE),), dynamo=True, dynamic_shapes=batch, opset_version=20, verbose=False
    )
    program.save(file)
    return file.getvalue()


def test_one_step_on_the_last_blocks_is_pytorchs(network: Pretrained) -> None:
    store = MemoryStore()
    bring(store, "net", exported(network), {"image": {"size": SIDE, "color": "grey"}})
    fields = {
        "backbone": "net",
        "rounds": 2,
        "network": {"standardize": 0, "dropout": 0},
        "training": {"epochs": 1, "batch_size": 16, "fine_tune": 2, "fine_tune_from": 1, "optimizer": "adam"},
    }
    data = drawings(60, side=SIDE)
    splits = {"train": data, "validation": drawings(20, side=SIDE, seed=1), "test": drawings(20, side=SIDE, seed=2)}
    commit(store, image_spec(SIDE), splits, config=DatasetConfig.model_validate(fields))
    start_training(store, RUN, DATASET, VERSION, serving=lambda name: 1)
    assert read_settings(store, RUN).transfer.shape == (6, SIDE, SIDE)
    keys, initial = RunKeys(RUN), read_checkpoint(store, RUN, 0)
    images, target = data["image"][:16], data["target"][:16]
    features = Session(store.read(keys.frozen_graph), 1).run({"image": images})["features"]
    with torch.no_grad():
        pixels = torch.from_numpy(images).float() / 255
        np.testing.assert_allclose(features, network.before(pixels).numpy(), atol=1e-5)

    feeds = {f"param.{name}": array for name, array in initial.parameters.items()}
    feeds |= {f"state.{name}": array for name, array in initial.state.items()}
    feeds |= {"features": features, "target": target, "step": np.array(0, np.float32)}
    feeds["learning_rate"] = np.array(RATE, np.float32)
    outputs = Session(store.read(keys.tuning_graph), 1).run(feeds)

    fused = fuse_conv_bn_eval(network.inner, network.inner_norm).requires_grad_()
    head = [
        torch.from_numpy(initial.parameters[f"output.{part}"].copy()).requires_grad_() for part in ("weight", "bias")
    ]
    theirs = [fused.weight, fused.bias, network.outer.weight, network.outer.bias, *head]
    before = [value.detach().clone().numpy() for value in theirs]
    optimizer = torch.optim.Adam(theirs, lr=RATE)
    hidden = torch.relu(fused(torch.from_numpy(features)))
    vector = torch.relu(F.conv2d(hidden, network.outer.weight, network.outer.bias, padding=1)).mean((2, 3))
    loss = F.cross_entropy(vector @ head[0] + head[1], torch.from_numpy(target))
    loss.backward()
    optimizer.step()

    assert float(outputs["loss"]) == pytest.approx(loss.item(), abs=1e-5)
    for old, new in zip(before, theirs, strict=True):
        (name,) = (
            name
            for name, array in initial.parameters.items()
            if array.shape == old.shape and np.allclose(array, old, atol=1e-5)
        )
        np.testing.assert_allclose(outputs[f"new.param.{name}"], new.detach().numpy(), atol=1e-5)
    assert len(initial.parameters) == len(theirs)
