"""Make this folder's digits.zip and held-out/ from scikit-learn's copy of the UCI digits.

Run it with an interpreter that has scikit-learn and Pillow; Shoal itself needs no scikit-learn:

    python3 -m venv .venv-digits && .venv-digits/bin/pip install scikit-learn pillow
    .venv-digits/bin/python examples/digits/make_digits.py

The same versions of zlib and Pillow write the same bytes again: names are sorted and every time stamp is fixed.
"""

from __future__ import annotations

import io
import shutil
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

HERE = Path(__file__).parent
HELD_OUT_PER_CLASS = 3
LEVELS = 16  # a pixel counts the ink in a block of 4x4: 0..16
EPOCH = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip archive can name


def png(pixels: np.ndarray) -> bytes:
    """One image as an 8-bit greyscale PNG.

    Args:
        pixels: float [8, 8], values 0..16.
    """
    grey = np.rint(pixels * 255 / LEVELS).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def held_out(targets: np.ndarray) -> set[int]:
    """Indices kept out of the archive: three per class, spread over the set, so that several writers are among them."""
    chosen: set[int] = set()
    for label in np.unique(targets):
        members = np.flatnonzero(targets == label)
        places = (2 * np.arange(HELD_OUT_PER_CLASS) + 1) * len(members) // (2 * HELD_OUT_PER_CLASS)
        chosen.update(int(index) for index in members[places])
    return chosen


def main() -> None:
    """Write digits.zip and held-out/ beside this file."""
    digits = load_digits()
    kept_out = held_out(digits.target)
    folder = HERE / "held-out"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    order = sorted(range(len(digits.target)), key=lambda index: (int(digits.target[index]), index))
    with zipfile.ZipFile(HERE / "digits.zip", "w", zipfile.ZIP_STORED) as archive:
        for index in order:
            label, data = int(digits.target[index]), png(digits.images[index])
            if index in kept_out:
                (folder / f"{label}-{index:04d}.png").write_bytes(data)
            else:
                member = zipfile.ZipInfo(f"{label}/{index:04d}.png", EPOCH)
                member.external_attr = 0o644 << 16
                archive.writestr(member, data)


if __name__ == "__main__":
    main()
