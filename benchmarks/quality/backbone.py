"""The pretrained backbone of examples/cutouts, brought as `shoal import --backbone` brings it."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.data.driving import Place
from benchmarks.data.inputs import CACHE, ROOT, Unavailable
from shoal_core.data.shards import Tensors
from shoal_core.importing.backbones import prepare_backbone
from shoal_core.importing.describing import ModelDescription
from shoal_core.importing.limits import Limits
from shoal_core.importing.trial import try_model
from shoal_core.importing.verifying import VerifiedModel
from shoal_core.keys import ModelKeys
from shoal_core.training.sessions import Session

NAME, VERSION = "efficientnet-lite0", 1
TORCH_PYTHON = ROOT / ".venv-torch" / "bin" / "python"
_FILES = CACHE / "cutouts"
# As the example's README imports it.
_DESCRIPTION = {"backbone": True, "image": {"size": 224, "mean": 0.498, "std": 0.502}}
_ROWS = 6


def cutouts() -> Path:
    """319 photo cutouts in five class folders, and the backbone beside them. Raises `Unavailable`."""
    command = [str(TORCH_PYTHON), str(ROOT / "examples" / "cutouts" / "fetch.py"), str(_FILES)]
    if not all((_FILES / name).exists() for name in ("cutouts.zip", f"{NAME}.onnx")):
        if not TORCH_PYTHON.exists():
            raise Unavailable("PyTorch, which reads the backbone's weights, isn't installed: run `make bench-quality`.")
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unavailable(f"`{' '.join(command)}` failed: {done.stderr.strip()[-600:]}")
    return _FILES / "cutouts.zip"


def bring(place: Place) -> None:
    """Register the backbone beside a place's data."""
    data = (_FILES / f"{NAME}.onnx").read_bytes()
    description = ModelDescription.model_validate(_DESCRIPTION)
    tried = try_model(data, description.sample, Limits(), description.hints)
    digest = hashlib.sha256(data).hexdigest()
    verified = VerifiedModel.model_validate({"digest": digest, "bytes": len(data), **tried})
    prepared = prepare_backbone(data, verified, description)
    keys = ModelKeys(NAME, VERSION)
    place.artifacts.write(keys.onnx, prepared.model)
    place.artifacts.write(keys.backbone, prepared.named(NAME, VERSION).encode())


def features_of(place: Place, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the backbone makes of images [N, C, H, W]: [N, width]."""
    session = Session(place.artifacts.read(ModelKeys(NAME, VERSION).onnx), 1)
    parts: list[Tensors] = [session.run({"image": images[row : row + _ROWS]}) for row in range(0, len(images), _ROWS)]
    found: Any = np.concatenate([part["features"] for part in parts])
    return found
