"""`shoal.export`: PyTorch modules to ONNX files that answer as they do, are verified, and are served."""

from __future__ import annotations

import importlib.util
import io
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

import shoal
from shoal.errors import BadRequest, ConversionFailed
from shoal_core.importing.describing import read_description
from shoal_core.importing.verifying import verify_model
from shoal_core.importing.wrapping import wrap_model
from shoal_core.serving.prediction import predict
from shoal_core.serving.sessions import ServedModel, session_of

pytestmark = pytest.mark.torch


class Convolution(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Dropout(0.5)
        )
        self.head = torch.nn.Linear(8, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(image).mean((2, 3)))


class Recurrent(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = torch.nn.Embedding(20, 8)
        self.cell = torch.nn.LSTM(8, 6, batch_first=True)
        self.head = torch.nn.Linear(6, 2)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.cell(self.words(tokens))[0][:, -1])


class Encoder(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, sequence: torch.Tensor) -> torch.Tensor:
        return self.block(sequence).mean(1)


class TwoInputs(torch.nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return a @ b.transpose(1, 2), a - b


MODULES = {
    "convolution": (Convolution, (torch.rand(1, 3, 16, 16),)),
    "recurrent": (Recurrent, (torch.randint(0, 20, (2, 7)),)),
    "encoder": (Encoder, (torch.rand(2, 5, 8),)),
    "two-inputs": (TwoInputs, (torch.rand(2, 3, 4), torch.rand(2, 3, 4))),
}


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
@pytest.mark.parametrize("name", list(MODULES))
def test_an_exported_module_answers_as_the_original_and_is_served(
    name: str, exporter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if exporter == "torchscript":  # what is used where onnxscript isn't installed
        find = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda asked: None if asked == "onnxscript" else find(asked))
    torch.manual_seed(1)
    make, example = MODULES[name]
    module = make().train()
    told = shoal.export(module, example if len(example) > 1 else example[0], tmp_path / "m.onnx")
    assert module.training
    assert told["from"] == "PyTorch"
    assert told["max_difference"] < 1e-4
    assert told["same_label"] == 1
    data = (tmp_path / "m.onnx").read_bytes()
    verified = verify_model(data)
    assert json.loads(verified.metadata["shoal.converted"])["version"] == torch.__version__
    assert verified.batch is None
    session = session_of(data, 1769)
    module.eval()
    with torch.no_grad():
        expected = module(*example)
    found = session.run(
        None, {entry.name: tensor.numpy() for entry, tensor in zip(verified.inputs, example, strict=True)}
    )
    for one, two in zip(expected if isinstance(expected, tuple) else [expected], found, strict=True):
        np.testing.assert_allclose(one.numpy(), two, atol=1e-5)


def test_pictures_to_an_exported_module_meet_what_the_module_says_of_the_same_pixels(tmp_path: Path) -> None:
    torch.manual_seed(1)
    module = Convolution().eval()
    shoal.export(module, torch.rand(2, 3, 16, 16), tmp_path / "m.onnx")
    data = (tmp_path / "m.onnx").read_bytes()
    description = b"image: {size: 16, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}\nlabels: [a, b, c, d, e]"
    wanted = read_description(description, lambda name: b"")
    wrapped = wrap_model(data, verify_model(data, hints=wanted.hints), wanted)
    model = ServedModel("m", 1, wrapped.spec, session_of(wrapped.model, 1769), len(data))
    pixels = np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    (answer,) = predict(model, buffer.getvalue(), "image/png")["predictions"]
    image = torch.tensor(pixels).permute(2, 0, 1) / 255
    image = (image - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[
        :, None, None
    ]
    with torch.no_grad():
        expected = torch.softmax(module(image[None].float()), 1)[0].numpy()
    np.testing.assert_allclose([answer["probabilities"][label] for label in "abcde"], expected, atol=1e-5)


def test_a_file_that_answers_differently_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from shoal.convert import exporting

    export = exporting._export

    def broken(torch_, module, examples, names, path):  # type: ignore[no-untyped-def]
        export(torch_, module, examples, names, path)
        model = onnx.load(path)
        weights = onnx.numpy_helper.to_array(model.graph.initializer[0])
        model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weights + 1, model.graph.initializer[0].name))
        onnx.save(model, path)

    monkeypatch.setattr(exporting, "_export", broken)
    with pytest.raises(ConversionFailed, match="answers differently: largest difference"):
        shoal.export(torch.nn.Sequential(torch.nn.Linear(3, 2)), torch.rand(2, 3), tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()


def test_what_isnt_a_tensor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="isn't a tensor"):
        shoal.export(Recurrent(), [1, 2], tmp_path / "m.onnx")
    with pytest.raises(BadRequest, match="doesn't exist"):
        shoal.export(Recurrent(), torch.randint(0, 20, (2, 7)), tmp_path / "nowhere/m.onnx")
