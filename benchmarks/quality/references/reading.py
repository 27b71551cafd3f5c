"""What was handed over."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()


def arrays(split: str) -> dict[str, Any]:
    """Name -> array of a split; empty where it has no samples."""
    with np.load(FOLDER / f"{split}.npz") as kept:
        return dict(kept)


def texts(split: str) -> list[str]:
    """The texts of a split, in the order of its arrays."""
    found: list[str] = json.loads((FOLDER / f"{split}.json").read_text())
    return found


def asked() -> dict[str, Any]:
    """What the run was asked for."""
    found: dict[str, Any] = json.loads((FOLDER / "asked.json").read_text())
    return found


def tell(score: float, **more: Any) -> None:
    """Print the outcome."""
    print(json.dumps({"score": float(score), **more}))
