"""Images by folder: the class of an image is the folder that holds it."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterable

from shoal_core.data.images.loading import EXTENSIONS, FORMAT_LIST
from shoal_core.data.tables.formats import TABLE_SUFFIXES
from shoal_core.errors import BadDataset


def is_image_name(name: str) -> bool:
    """Whether the extension is an image's."""
    dot = name.rfind(".")
    return dot > name.rfind("/") + 1 and name[dot:].casefold() in EXTENSIONS


def judge_image_name(name: str) -> tuple[str, str, str]:
    """Why a file can't be a sample: (code, reason, fix), all empty when it can."""
    if is_image_name(name):
        return "", "", ""
    return "not_an_image", "its extension isn't an image's", f"Leave it out, or save it as {FORMAT_LIST}."


def folder_of(name: str) -> str:
    """The path of the folder that holds a file; '' at the top. Unicode is normalised (NFC; macOS writes NFD)."""
    return _normal_folder(name.rpartition("/")[0])


@functools.lru_cache(maxsize=4096)
def _normal_folder(folder: str) -> str:
    """Neighbours mostly share their folder. Empty parts and dots are left out."""
    parts = unicodedata.normalize("NFC", folder).split("/")
    return "/".join(part for part in parts if part not in ("", "."))


def place_in(folder: str, name: str) -> str:
    """The name of a file that lies in a folder of the set; '' is the top."""
    return f"{folder}/{name}" if folder else name


def common_root(folders: Iterable[str]) -> str:
    """The deepest folder that holds all others; '' when there is none."""
    root: list[str] | None = None
    for folder in folders:
        parts = folder.split("/") if folder else []
        if root is None:
            root = parts
            continue
        length = 0
        while length < min(len(root), len(parts)) and root[length] == parts[length]:
            length += 1
        root = root[:length]
    return "/".join(root or [])


def class_of(folder: str, root: str) -> str | None:
    """The class of images in a folder: its last part; None for images that lie in the root itself."""
    if folder == root:
        return None
    return folder.rpartition("/")[2].strip() or None


def classes_of(folders: Iterable[str], name: str, things: str = "images") -> tuple[str, list[str]]:
    """The common root and the classes of a set of folders of `things` (images or texts).

    Raises:
        BadDataset: No class folders, or one class only.
    """
    found = sorted(set(folders))
    root = common_root(found)
    classes = sorted({label for folder in found if (label := class_of(folder, root)) is not None})
    ending = ".png" if things == "images" else ".txt"
    fix = f"Put {things} in one folder per class, like {f'cats/1{ending}'!r} and {f'dogs/2{ending}'!r}."
    if not classes:
        parts = root.rpartition("/")[2]
        where = f" (all {things} lie in {parts!r})" if parts else ""
        raise BadDataset(f"{name!r} has no class folders, or one class only{where}.", fix)
    if len(classes) < 2:
        raise BadDataset(f"{name!r} has one class only: {classes[0]!r}.", fix)
    return root, classes


def no_images(name: str, names: Iterable[str]) -> BadDataset:
    """The error for a set without any image; a table among its files gets its own advice."""
    table = next((entry for entry in names if entry.casefold().endswith(TABLE_SUFFIXES)), None)
    if table:
        return BadDataset(f"{name!r} holds no images, but the table {table!r}.", "Upload the table itself.")
    return BadDataset(f"{name!r} holds no images.", f"Put {FORMAT_LIST} files in one folder per class.")
