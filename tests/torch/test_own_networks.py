"""PyTorch modules exported as `shoal.train` exports them: after a step they are where PyTorch takes them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from shoal._torch_networks import export_module
from shoal.errors import BadRequest, ConversionFailed
from shoal_core.graphs.documents import network_document
from shoal_core.graphs.losses import loss_for
from shoal_core.graphs.optimizers import Sgd
from shoal_core.graphs.signature import Classification, ImageInput, NetworkSignature, SequenceInput
from shoal_core.graphs.training_step import build_training_step, forward_with_parameters
from shoal_core.jobs.network import GraphNetwork
from shoal_core.training.networks.adopting import Adopted, adopt_network
from shoal_core.training.networks.config import NetworkConfig
from shoal_core.training.networks.inputs import given_inputs
from shoal_core.training.networks.proving import prove
from tests.unit.graphs.networks import CLASSES, TEXTS, batch, load, prefixed, run

pytestmark = pytest.mark.torch

RATE, SAMPLES = 0.05, 6
IMAGES = NetworkSignature(image=ImageInput(shape=(2, 8, 8), mean=(100.0, 120.0), std=(60.0, 70.0)), task=CLASSES)
WINDOWS = NetworkSignature(
    sequence=SequenceInput(steps=7, mean=(1.0, -2.0), std=(2.0, 0.5), missing=(False, False)), task=CLASSES
)


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.GELU(), nn.AdaptiveAvgPool2d(1),
        )  # fmt: skip
        self.head = nn.Linear(6, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(torch.flatten(self.features(image), 1))


class Recurrence(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2, 5, batch_first=True)
        self.head = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(x)[0][:, -1])


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(12, 8)
        self.positions = nn.Parameter(torch.randn(9, 8) * 0.1)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(self.table(tokens) + self.positions).mean(1))


class Layers(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(128, 16), nn.LayerNorm(16), nn.Tanh(), nn.Linear(16, 3))


class Tied(nn.Module):
    """One layer used twice, and two names of one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.head = nn.Linear(14, 14), nn.Linear(14, 14), nn.Linear(14, 3)
        self.again.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.again(torch.relu(self.first(x.flatten(1))))))


def adopt(module: nn.Module, signature: NetworkSignature) -> Adopted:
    inputs = [{"name": g.name, "datatype": g.datatype, "shape": list(g.shape)} for g in given_inputs(signature)]
    return adopt_network(export_module(module, inputs), signature, NetworkConfig(sha256="0" * 64))


def seen(signature: NetworkSignature, tensors: dict[str, np.ndarray]) -> torch.Tensor:
    """What the dataset gives to a network, worked out in PyTorch."""
    if signature.image is not None:
        mean, std = (torch.tensor(x).reshape(1, -1, 1, 1) for x in (signature.image.mean, signature.image.std))
        return (torch.from_numpy(tensors["image"]).float() - mean) / std
    if signature.sequence is not None:
        mean, std = torch.tensor(signature.sequence.mean), torch.tensor(signature.sequence.std)
        return (torch.from_numpy(tensors["sequence"]).nan_to_num(0) - mean) / std
    ids = torch.from_numpy(tensors["tokens"].astype(np.int64))
    return torch.where((ids >= 0) & (ids < signature.tokens.columns[0].cardinality), ids, 1)


def samples(signature: NetworkSignature) -> dict[str, np.ndarray]:
    tensors = batch(signature, SAMPLES, seed=4)
    if "sequence" in tensors:
        tensors["sequence"] = np.nan_to_num(tensors["sequence"])
    return tensors


MODULES = [
    (Convolutions, IMAGES),
    (Layers, IMAGES),
    (Recurrence, WINDOWS),
    (Attention, TEXTS),
    (Tied, WINDOWS),
]


@pytest.mark.parametrize(("kind", "signature"), MODULES, ids=[kind.__name__ for kind, _ in MODULES])
def test_a_step_equals_pytorch(kind, signature):
    torch.manual_seed(3)
    module = kind().train()
    forward = adopt(module, signature).forward
    assert module.training and all(layer.training for layer in module.modules())  # left as it was
    everything = dict(module.named_parameters(remove_duplicate=False))
    assert {id(everything[name]) for name in forward.parameters} == {id(x) for x in module.parameters()}
    tensors = samples(signature)
    loss = loss_for(signature.task, None, {})
    prove(forward, loss, tensors, 60)
    optimizer = Sgd(momentum=0.0)
    feeds = prefixed(forward) | {
        f"state.{slot}.{name}": np.zeros_like(x) for slot in optimizer.slots for name, x in forward.initial.items()
    }
    outputs = run(
        load(build_training_step(forward, loss, optimizer)),
        {**tensors, **feeds, "learning_rate": np.float32(RATE), "step": np.float32(0)},
    )
    descent = torch.optim.SGD(module.parameters(), lr=RATE)
    expected = F.cross_entropy(module(seen(signature, tensors)), torch.from_numpy(tensors["target"]))
    expected.backward()
    descent.step()
    assert outputs["loss"] == pytest.approx(expected.item(), rel=1e-5, abs=1e-5)
    for name in forward.parameters:
        after = everything[name].detach().numpy()
        np.testing.assert_allclose(outputs[f"new.param.{name}"], after, atol=1e-5, err_msg=name)
    for name, buffer in module.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            np.testing.assert_allclose(outputs[f"new.buffer.{name}"], buffer.numpy(), atol=1e-5, err_msg=name)
    # And what is served answers as the module does in evaluation.
    trained = {name.removeprefix("new."): array for name, array in outputs.items() if name != "loss"}
    answers = run(load(forward_with_parameters(forward)), {**tensors, **trained})["logits"]
    with torch.no_grad():
        np.testing.assert_allclose(answers, module.eval()(seen(signature, tensors)).numpy(), atol=1e-4)


def test_dropout_is_kept_and_drops_by_the_noise_that_is_given():
    torch.manual_seed(5)
    module = nn.Sequential(nn.Flatten(), nn.Linear(128, 10), nn.Dropout(0.4), nn.Linear(10, 3))
    forward = adopt(module, IMAGES).forward
    (name,) = forward.dropouts
    tensors = samples(IMAGES)
    noise = np.random.default_rng(0).random((SAMPLES, 10), np.float32)
    optimizer = Sgd(momentum=0.0)
    feeds = prefixed(forward) | {
        f"state.{slot}.{key}": np.zeros_like(x) for slot in optimizer.slots for key, x in forward.initial.items()
    }
    scalars = {"learning_rate": np.float32(RATE), "step": np.float32(0), f"noise.{name}": noise}
    outputs = run(
        load(build_training_step(forward, loss_for(CLASSES, None, {}), optimizer)), {**tensors, **feeds, **scalars}
    )
    x = module[1](module[0](seen(IMAGES, tensors))) * torch.from_numpy(noise >= 0.4).float() / 0.6
    loss = F.cross_entropy(module[3](x), torch.from_numpy(tensors["target"]))
    loss.backward()
    for key, parameter in module.named_parameters():
        after = (parameter - RATE * parameter.grad).detach().numpy()
        np.testing.assert_allclose(outputs[f"new.param.{key}"], after, atol=1e-5, err_msg=key)

    # A job on SageMaker drops, too, and not where it answers.
    network = GraphNetwork(network_document(forward_with_parameters(forward)), forward.initial, forward.buffers)
    data = {key: torch.from_numpy(value) for key, value in tensors.items() if key != "target"}
    with torch.no_grad():
        answers = [torch.manual_seed(seed) and network.train()(dict(data)) for seed in (1, 1, 2)]
        assert torch.equal(answers[0], answers[1]) and not torch.equal(answers[0], answers[2])
        served = run(load(forward_with_parameters(forward)), {**tensors, **prefixed(forward)})["logits"]
        np.testing.assert_allclose(network.eval()(dict(data)).numpy(), served, atol=1e-5)


def test_a_frozen_part_is_not_trained():
    module = Layers()
    module[1].requires_grad_(False)
    adopted = adopt(module, IMAGES)
    assert adopted.forward.parameters == ("2.weight", "2.bias", "4.weight", "4.bias")
    with pytest.raises(BadRequest, match="No parameter of the module is trained"):
        adopt(Layers().requires_grad_(False), IMAGES)


def test_what_cannot_be_exported_is_told():
    class Stubborn(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise NotImplementedError("not without a batch")

    with pytest.raises(ConversionFailed, match="PyTorch can't export the module"):
        export_module(Stubborn(2, 3), [{"name": "rows", "datatype": "FP32", "shape": [2]}])

    class Two(nn.Linear):
        def forward(self, numbers: torch.Tensor, colours: torch.Tensor) -> torch.Tensor:
            return numbers

    with pytest.raises(BadRequest, match="forward takes 'colours', which the dataset doesn't give"):
        export_module(Two(2, 3), [{"name": "numbers", "datatype": "FP32", "shape": [2]}])


def test_the_exporters_own_default_is_fitted_or_refused_by_name():
    """A user's own export, optimised: BatchNormalization is folded, and layers that begin alike are merged."""
    torch.manual_seed(3)
    free = ({0: torch.export.Dim.DYNAMIC},)
    options = {"dynamo": True, "external_data": False, "dynamic_shapes": free, "verbose": False}
    program = torch.onnx.export(Convolutions().eval(), (torch.randn(2, 2, 8, 8),), **options)
    adopted = adopt_network(program.model_proto.SerializeToString(), IMAGES, NetworkConfig(sha256="0" * 64))
    assert not any(node.op_type == "BatchNormalization" for node in onnx.load_from_string(
        program.model_proto.SerializeToString()).graph.node)  # fmt: skip
    assert not adopted.forward.buffers
    assert isinstance(IMAGES.task, Classification)
