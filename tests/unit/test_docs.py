"""Documents say what the code says: dependencies, the table of what is honoured, the fields of dataset.yaml, links."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from shoal.local.deploy.stack import supported_properties
from shoal.local.deploy.table import BEGIN, END, render, replace
from shoal.local.faults import parse_faults
from shoal_core.data.config import ALLOWED
from shoal_core.errors import BadInput
from tests.unit.test_architecture import CORE, FUNCTIONS, PROGRAMS, USERS, files, imports_of

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]
LAYERS = sorted((ROOT / "layers").glob("*/requirements.txt"))
LAMBDA = default_environment() | {
    "python_version": "3.13",
    "python_full_version": "3.13.0",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
    "sys_platform": "linux",
    "platform_system": "Linux",
}
# Import name -> distribution, where they differ.
DISTRIBUTIONS = {
    "jwt": "pyjwt",
    "PIL": "pillow",
    "antlr4": "antlr4-python3-runtime",
    "samtranslator": "aws-sam-translator",
    "yaml": "pyyaml",
}


def text(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def table_cells(document: str, heading: str, column: int = 0) -> set[str]:
    """Names in one column of the table under a heading; a cell may name several, divided by commas."""
    section = document.partition(f"## {heading}")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return {canonicalize_name(name.strip()) for row in rows[2:] for name in row[column].split(",")}


def requirements(lines: list[str]) -> list[Requirement]:
    return [Requirement(line) for line in lines if line.strip() and not line.startswith(("#", " ", "-"))]


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pins(path: Path) -> dict[str, str]:
    """Exact versions of a lock or a layer, as they are for CPython 3.13 on Linux."""
    lines = [line.removesuffix("\\").strip() for line in path.read_text().splitlines() if not line.startswith(" ")]
    found = [entry for entry in requirements(lines) if entry.marker is None or entry.marker.evaluate(LAMBDA)]
    return {canonicalize_name(entry.name): str(entry.specifier).removeprefix("==") for entry in found}


def names(entries: list[str]) -> set[str]:
    return {canonicalize_name(entry.name) for entry in requirements(entries)}


def test_every_direct_dependency_is_explained():
    document = text("dependencies.md")
    assert table_cells(document, "Running") == names(project()["dependencies"])
    assert table_cells(document, "Development") == names(project()["optional-dependencies"]["dev"])
    assert table_cells(document, "Building") == names((ROOT / "requirements/build.in").read_text().splitlines())


def test_every_layer_requirement_is_explained():
    section = text("dependencies.md").partition("## Layers")[2].partition("\n## ")[0]
    found: dict[str, set[str]] = {}
    for row in (line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")):
        found.setdefault(row[0].strip(), set()).update(canonicalize_name(name.strip()) for name in row[1].split(","))
    for path in LAYERS:
        assert found[path.parent.name] == set(pins(path)), path.parent.name


def test_the_side_environments_are_explained():
    explained = table_cells(text("dependencies.md"), "Side environments", column=1)
    asked = [*(ROOT / "requirements/sam.in").read_text().splitlines()]
    serving = ("serve-fastapi.txt", "serve-bentoml.txt", "serve-mlserver.txt")
    for name in ("torch.txt", "bench.txt", *serving):
        asked += (ROOT / "requirements" / name).read_text().splitlines()
    assert explained == names(asked)


@pytest.mark.parametrize("path", LAYERS, ids=lambda path: path.parent.name)
def test_a_layer_has_the_versions_of_the_lock(path):
    lock = pins(ROOT / "requirements/run.txt")
    layer = pins(path)
    assert layer
    assert {name: lock.get(name) for name in layer} == layer


def test_locks_pin_everything_with_hashes():
    for name in ("run.txt", "dev.txt", "sam.txt"):
        lines = (ROOT / "requirements" / name).read_text().splitlines()
        heads = [number for number, line in enumerate(lines) if line and not line.startswith((" ", "#"))]
        assert heads
        assert all("==" in lines[number] and "--hash=sha256:" in lines[number + 1] for number in heads), name


def test_the_development_lock_holds_the_run_lock():
    run, dev = pins(ROOT / "requirements/run.txt"), pins(ROOT / "requirements/dev.txt")
    assert {name: dev.get(name) for name in run} == run


def test_every_import_is_declared():
    ours = {"shoal", "shoal_core"}
    sources = [path for folder in (CORE, FUNCTIONS, USERS) for path in files(folder) if path.parent != PROGRAMS]
    imported = {found.package for path in sources for found in imports_of(path)}
    outside = imported - ours - set(sys.stdlib_module_names)
    foreign = {canonicalize_name(DISTRIBUTIONS.get(name, name)) for name in outside}
    declared = names(project()["dependencies"])
    # PyTorch is in the image of a training job, and in none of ours.
    assert foreign - {"torch"} <= declared


def test_every_import_of_a_converters_program_is_in_its_lock_or_is_its_neighbour():
    locks = {
        "pytorch": "pytorch",
        "keras_and_tflite": "tensorflow",
        "trees": "trees",
        "caffe": "caffe",
    }
    neighbours = {path.stem for path in files(PROGRAMS)}
    # What caffe-onnx and protobuf call their packages.
    packages = {"cv2": "opencv-python-headless", "google": "protobuf", "proto": "caffe-onnx", "sklearn": "scikit-learn"}
    packages["src"] = "caffe-onnx"
    for program, lock in locks.items():
        imported = {found.package for name in (program, "comparing") for found in imports_of(PROGRAMS / f"{name}.py")}
        foreign = imported - set(sys.stdlib_module_names) - neighbours
        pinned = pins(PROGRAMS.parent / "locks" / f"{lock}.txt")
        assert {canonicalize_name(packages.get(name, name)) for name in foreign} <= set(pinned), program


@pytest.mark.parametrize("name", ["caffe", "pytorch", "tensorflow", "trees"])
def test_a_converters_lock_pins_everything_with_hashes(name):
    lines = (PROGRAMS.parent / "locks" / f"{name}.txt").read_text().splitlines()
    heads = [number for number, line in enumerate(lines) if line and not line.startswith((" ", "#"))]
    assert heads
    assert all("==" in lines[number] and "--hash=sha256:" in lines[number + 1] for number in heads)
    asked = names((PROGRAMS.parent / "locks" / f"{name}.in").read_text().splitlines())
    assert asked <= set(pins(PROGRAMS.parent / "locks" / f"{name}.txt"))


def test_the_table_of_what_is_honoured_is_fresh():
    document = text("local-cloud.md")
    assert replace(document) == document, "run: python -m shoal.local.deploy.table docs/local-cloud.md"
    generated = document.partition(BEGIN)[2].partition(END)[0]
    assert generated.count("| acted on |") + generated.count("| recorded |") == len(supported_properties())


def test_the_table_needs_its_place():
    assert replace(f"a\n{BEGIN}\nold\n{END}\nb") == f"a\n{BEGIN}\n\n{render()}\n{END}\nb"
    with pytest.raises(BadInput, match="lacks the marks"):
        replace("no place here")


def test_a_bar_in_a_reason_doesnt_break_the_table():
    row = supported_properties()[0]
    rendered = render([type(row)(row.type, "A", "x | y", True)])
    assert rendered.splitlines()[-1] == "| `A` | recorded | x \\| y |"


def test_every_field_of_dataset_yaml_is_documented_with_what_it_allows():
    rows = re.findall(r"^\| `([\w.]+)` \| (.+?) \| .*\|$", text("upload-contract.md"), re.MULTILINE)
    documented = dict(rows)
    assert list(documented) == list(ALLOWED)
    for field, allowed in ALLOWED.items():
        for number in re.findall(r"\d+(?:\.\d+)?", allowed.partition("for example")[0]):
            assert number in documented[field], f"{field}: {allowed}"


def test_documented_faults_exist():
    example = re.search(r'SHOAL_FAULTS="([^"]+)"', text("local-cloud.md"))
    assert example
    assert parse_faults(example[1]).any
    for setting in re.findall(r"^\| `([a-z0-9-]+)=", text("local-cloud.md"), re.MULTILINE):
        parse_faults(f"{setting}=0.5")


def test_every_make_target_is_explained():
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)) - {"help"}
    explained = set(re.findall(r"`make ([a-z-]+)`", (ROOT / "CONTRIBUTING.md").read_text()))
    assert targets == explained


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path):
    links = re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8"))
    broken = [link for link in links if "://" not in link and not (path.parent / link).exists()]
    assert not broken


@pytest.mark.parametrize("path", sorted((ROOT / "docs/decisions").glob("*.md")), ids=lambda path: path.stem)
def test_a_decision_is_dated_and_says_what_why_and_what_it_costs(path):
    content = path.read_text(encoding="utf-8")
    assert re.match(r"\d{4}-\d{2}-\d{2}-[a-z0-9-]+$", path.stem)
    assert f"\n{path.stem[:10]} · " in content
    assert all(part in content for part in ("**What.**", "**Why.**", "**The price.**"))
    assert "**Measured**" in content or "**Effect.**" in content


def test_documents_name_no_machine():
    for path in DOCUMENTS:
        content = path.read_text(encoding="utf-8")
        assert not re.search(r"(/home/|/root/|/work/|/Users/|/tmp/\w)", content), path
