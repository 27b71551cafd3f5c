"""Which converters a file needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shoal.errors import BadRequest


@dataclass(frozen=True)
class Family:
    """Converters that share an environment.

    Attributes:
        lock: Name of its lock under `locks/`.
        title: What people call it.
        program: Name of its program under `programs/`.
        size: About how much is downloaded.
        suffixes: Files that it converts.
    """

    lock: str
    title: str
    program: str
    size: str
    suffixes: tuple[str, ...]


PYTORCH = Family("pytorch", "PyTorch", "pytorch", "0.3 to 3 GB", (".pt2", ".pt", ".pth"))
TENSORFLOW = Family("tensorflow", "Keras and TensorFlow", "keras_and_tflite", "0.7 GB", (".keras", ".h5", ".tflite"))
TREES = Family(
    "trees",
    "scikit-learn, XGBoost and LightGBM",
    "trees",
    "0.5 GB",
    (".skops", ".joblib", ".pkl", ".pickle", ".json", ".ubj", ".bst", ".txt"),
)
CAFFE = Family("caffe", "Caffe", "caffe", "0.1 GB", (".prototxt",))
FAMILIES = (PYTORCH, TENSORFLOW, TREES, CAFFE)


def family_of(source: Path) -> Family:
    """The converters for a file or folder.

    Raises:
        BadRequest: It doesn't exist, or nothing here converts it.
    """
    if not source.exists():
        raise BadRequest(f"{source} doesn't exist.", "Name the model's file, or its folder (SavedModel).")
    if source.is_dir():
        if (source / "saved_model.pb").is_file():
            return TENSORFLOW
        raise BadRequest(f"{source} is a folder without saved_model.pb.", "Name a SavedModel's folder, or a file.")
    suffix = source.suffix.lower()
    found = next((family for family in FAMILIES if suffix in family.suffixes), None)
    if found is None:
        known = ", ".join(suffix for family in FAMILIES for suffix in family.suffixes)
        raise BadRequest(f"Nothing here converts {source.name!r}.", f"Known are {known}, and a SavedModel's folder.")
    return found
