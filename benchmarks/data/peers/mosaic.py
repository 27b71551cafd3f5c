"""MosaicML's `streaming`, importable beside any build of PyTorch."""

from __future__ import annotations

import functools
import sys
from types import ModuleType
from typing import Any

_KEPT: list[Any] = []


@functools.lru_cache(maxsize=1)
def streaming() -> ModuleType:
    """The module `streaming`.

    It imports torchvision for ready-made data sets, which aren't used here. Where PyTorch was built without CUDA and
    torchvision with it, torchvision's operators are missing, and its import fails until two of them are declared.
    """
    import torch

    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(library)
    import streaming as module

    return module
