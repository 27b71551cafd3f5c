"""Dependencies point inward, as docs/architecture.md draws them; read from the imports, nothing is executed."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from shoal.local.template import read_template

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "layers/core/shoal_core"
FUNCTIONS = ROOT / "functions"
USERS = ROOT / "src/shoal"
LOCAL = USERS / "local"
# Run by the interpreters of the converters' own environments, where nothing of Shoal is installed.
PROGRAMS = USERS / "convert/programs"

MAX_HANDLER_LINES = 80
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "manager", "managers", "common", "misc"}
# Third-party packages that a layer other than the core one brings: only functions with that layer may load them.
LAYER_OF = {
    "PIL": "ImagesLayer",
    "jwt": "AccessLayer",
    "onnx": "OnnxLayer",
    "onnxruntime": "OnnxRuntimeLayer",
    "numpy": "OnnxRuntimeLayer",
}


@dataclass(frozen=True)
class Import:
    """One import: the module that is named, where, and whether loading the importing module executes it."""

    target: str
    line: int
    eager: bool

    @property
    def package(self) -> str:
        return self.target.partition(".")[0]


def read_imports(source: str, module: str = "", is_package: bool = False) -> Iterator[Import]:
    """All imports of a source text, relative ones made absolute; `from a import b` names `a` and `a.b`."""
    yield from _walk(ast.parse(source), module if is_package else module.rpartition(".")[0], eager=True)


def _walk(node: ast.AST, package: str, eager: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, child.lineno, eager)
        elif isinstance(child, ast.ImportFrom):
            base = _absolute(child, package)
            yield Import(base, child.lineno, eager)
            for alias in child.names:
                yield Import(f"{base}.{alias.name}", child.lineno, eager)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or _only_for_types(child):
            yield from _walk(child, package, eager=False)
        else:
            yield from _walk(child, package, eager)


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*parts, *([node.module] if node.module else [])])


def _only_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


@cache
def imports_of(path: Path) -> tuple[Import, ...]:
    return tuple(read_imports(path.read_text(encoding="utf-8"), module_of(path), path.name == "__init__.py"))


def module_of(path: Path) -> str:
    for top in (USERS.parent, CORE.parent):
        if path.is_relative_to(top):
            parts = path.relative_to(top).with_suffix("").parts
            return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return path.stem


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def is_in(target: str, *packages: str) -> bool:
    return any(target == package or target.startswith(f"{package}.") for package in packages)


def offences(paths: list[Path], *forbidden: str, eager_only: bool = False) -> list[str]:
    """Imports of forbidden packages, as `file:line imports target`."""
    return [
        f"{path.relative_to(ROOT)}:{found.line} imports {found.target}"
        for path in paths
        for found in imports_of(path)
        if is_in(found.target, *forbidden) and (found.eager or not eager_only)
    ]


@cache
def core_file(module: str) -> Path | None:
    """The file of a shoal_core module; None for a name in a module."""
    base = CORE.parent.joinpath(*module.split("."))
    return next((path for path in (base / "__init__.py", base.with_suffix(".py")) if path.is_file()), None)


def loaded_by(path: Path) -> set[str]:
    """Every module that importing a file executes: its eager imports, and theirs within shoal_core."""
    found: set[str] = set()
    waiting = [path]
    while waiting:
        for entry in imports_of(waiting.pop()):
            if not entry.eager or entry.target in found:
                continue
            found.add(entry.target)
            parts = entry.target.split(".")
            for length in range(1, len(parts) + 1):
                name = ".".join(parts[:length])
                file = core_file(name) if parts[0] == "shoal_core" else None
                if file is not None:
                    found.add(name)
                    waiting.append(file)
    return found


def test_functions_never_import_the_users_package():
    assert not offences(files(FUNCTIONS), "shoal")


def test_functions_import_only_the_core_and_powertools():
    allowed = ("shoal_core", "aws_lambda_powertools")
    foreign = [
        f"{path.relative_to(ROOT)}:{found.line} imports {found.target}"
        for path in files(FUNCTIONS)
        for found in imports_of(path)
        if found.package not in sys.stdlib_module_names and not is_in(found.target, *allowed)
    ]
    assert not foreign


def test_the_core_imports_neither_functions_nor_the_users_package():
    assert not offences(files(CORE), "shoal", "functions", "app", "moto")


def test_only_the_aws_package_of_the_core_knows_aws():
    paths = [path for path in files(CORE) if not path.is_relative_to(CORE / "aws")]
    assert not offences(paths, "boto3", "botocore", "aws_lambda_powertools", "shoal_core.aws")


def test_onnx_is_imported_by_graphs_and_importing_alone():
    # Models that were made elsewhere are read and wrapped where nothing of training is known.
    # A backbone will be trained on, so it is cut and divided by the graphs' own means.
    backbones = CORE / "importing/backbones.py"
    assert not offences([path for path in files(CORE / "importing") if path != backbones], "shoal_core.graphs")
    assert not offences(files(CORE / "importing"), "shoal_core.training")
    outside = [path for path in files(CORE) if not path.is_relative_to(CORE / "graphs")]
    outside = [path for path in outside if not path.is_relative_to(CORE / "importing")]
    # A user's own network is taken apart and fitted by functions with the onnx layer, in a process of its own.
    outside = [path for path in outside if not path.is_relative_to(CORE / "training/networks")]
    # Start Training writes the graphs that it builds, so it names their type; its function has the onnx layer.
    starting = {CORE / f"training/{name}.py" for name in ("starting", "transferring", "fitting")}
    assert not offences([path for path in outside if path not in starting], "onnx")
    using_graphs = {path.relative_to(CORE).as_posix() for path in outside if offences([path], "shoal_core.graphs")}
    starts = {f"training/{name}.py" for name in ("starting", "transferring", "fitting", "signatures", "inheriting")}
    assert using_graphs == starts | {"training/finishing.py", "training/optimizing.py"}
    # Train Shard shares this module with Merge Round, and has no onnx layer.
    assert "onnx" not in loaded_by(CORE / "training/merging.py")


def test_pytorch_is_where_training_jobs_run_alone():
    program = CORE / "aws/training_job.py"
    others = [path for path in files(CORE) if not path.is_relative_to(CORE / "jobs") and path != program]
    assert not offences([*others, *files(FUNCTIONS)], "torch", "shoal_core.jobs", "shoal_core.aws.training_job")
    # A job's image has numpy and pydantic, and nothing of the layers.
    loaded = loaded_by(program)
    assert not [name for name in loaded if is_in(name, "onnx", "onnxruntime", "aws_lambda_powertools", "duckdb", "PIL")]


def test_the_sdk_and_the_commands_talk_over_http_and_s3_only():
    paths = [path for path in files(USERS) if not path.is_relative_to(LOCAL) and not path.is_relative_to(PROGRAMS)]
    assert not offences(paths, "shoal_core", "moto", "onnx", "onnxruntime", "aws_lambda_powertools")
    assert not offences(paths, "shoal.local", eager_only=True)
    loading_it = {path.relative_to(USERS).as_posix() for path in paths if offences([path], "shoal.local")}
    assert loading_it <= {"cli/cloud.py", "demo.py"}


def test_the_converters_programs_know_nothing_of_shoal_and_nothing_imports_them():
    assert not offences(files(PROGRAMS), "shoal", "shoal_core")
    others = [path for folder in (CORE, FUNCTIONS, USERS) for path in files(folder) if path.parent != PROGRAMS]
    assert not offences(others, "shoal.convert.programs", *(path.stem for path in files(PROGRAMS)))


def test_the_embedded_cloud_uses_only_errors_and_aws_of_the_core():
    found = offences(files(LOCAL), "shoal_core")
    allowed = re.compile(r" imports shoal_core\.(errors|aws)(\.\w+)*$")
    assert not [text for text in found if not allowed.search(text)]


def test_the_embedded_cloud_doesnt_know_the_sdk():
    outside = [
        f"{path.relative_to(ROOT)}:{found.line} imports {found.target}"
        for path in files(LOCAL)
        for found in imports_of(path)
        if found.package == "shoal" and not is_in(found.target, "shoal.local") and found.target != "shoal"
    ]
    assert not outside


def test_no_module_has_a_vague_name():
    folders = [CORE, FUNCTIONS, USERS]
    names = [path for folder in folders for path in folder.rglob("*") if path.suffix == ".py" or path.is_dir()]
    assert not [path for path in names if path.stem in VAGUE_NAMES]


@pytest.mark.parametrize("path", sorted(FUNCTIONS.glob("*/app.py")), ids=lambda path: path.parent.name)
def test_a_handler_is_thin(path):
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    assert len(lines) <= MAX_HANDLER_LINES
    assert [entry.name for entry in path.parent.iterdir() if entry.name != "__pycache__"] == ["app.py"]


def function_layers() -> dict[str, set[str]]:
    """The layers of each function by its folder's name, those of Globals included."""
    template = read_template(ROOT / "template.yaml")
    shared = template["Globals"]["Function"].get("Layers", [])
    return {
        resource["Properties"]["CodeUri"].rstrip("/").rpartition("/")[2]: {
            layer["Ref"] for layer in [*shared, *resource["Properties"].get("Layers", [])]
        }
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::Serverless::Function"
    }


def test_each_function_loads_only_what_its_layers_bring():
    layers = function_layers()
    assert set(layers) == {path.name for path in FUNCTIONS.iterdir() if (path / "app.py").is_file()}
    missing = [
        f"{name} loads {package}, which {layer} brings"
        for name, has in layers.items()
        for package, layer in LAYER_OF.items()
        if layer not in has and any(is_in(module, package) for module in loaded_by(FUNCTIONS / name / "app.py"))
    ]
    assert not missing


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import boto3.session", [("boto3.session", True)]),
        ("from onnx import helper", [("onnx", True), ("onnx.helper", True)]),
        ("def f():\n    import onnx", [("onnx", False)]),
        ("if TYPE_CHECKING:\n    import moto", [("moto", False)]),
        ("try:\n    import onnx\nexcept ImportError:\n    raise", [("onnx", True)]),
        ("class A:\n    import onnx", [("onnx", True)]),
        ("from . import s3", [("shoal_core.aws", True), ("shoal_core.aws.s3", True)]),
        ("from ..data import spec", [("shoal_core.data", True), ("shoal_core.data.spec", True)]),
    ],
)
def test_imports_are_found_wherever_they_stand(source, expected):
    found = [(entry.target, entry.eager) for entry in read_imports(source, "shoal_core.aws.table")]
    assert found == expected
