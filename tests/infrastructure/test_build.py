"""What goes to AWS: layers and functions built by `sam build`, their sizes, and whether each handler imports."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.aws import ENVIRONMENT, REGION, ROOT
from tests.support.python313 import WHY, python313
from tests.support.sam import build, sam

# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
LIMIT = 250 * 2**20
MAX_LAYERS = 5

pytestmark = pytest.mark.skipif(python313() is None, reason=WHY)


class Built:
    """The built template: functions with their folders and layers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        resources = yaml.safe_load((folder / "template.yaml").read_text())["Resources"]
        shared = yaml.safe_load((folder / "template.yaml").read_text())["Globals"]["Function"]["Layers"]
        self.functions: dict[str, list[str]] = {
            name: [entry["Ref"] for entry in [*shared, *resource["Properties"].get("Layers", [])]]
            for name, resource in resources.items()
            if resource["Type"] == "AWS::Serverless::Function"
        }

    def bytes(self, name: str) -> int:
        return sum(path.lstat().st_size for path in (self.folder / name).rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def built() -> Built:
    return Built(build())


def test_the_template_is_valid() -> None:
    assert "valid SAM Template" in sam("validate", "--lint").stdout


def test_each_function_with_its_layers_fits_into_lambda(built: Built, capsys: pytest.CaptureFixture[str]) -> None:
    layers = sorted({layer for names in built.functions.values() for layer in names})
    sizes: dict[str, int] = {name: built.bytes(name) for name in layers}
    with capsys.disabled():
        print("\nunzipped, MB (limit 250 with layers)")  # noqa: T201
        for name in layers:
            print(f"  {name:24} {sizes[name] / 2**20:6.1f}")  # noqa: T201
        for name, names in built.functions.items():
            total = built.bytes(name) + sum(sizes[layer] for layer in names)
            print(f"  {name:24} {total / 2**20:6.1f}  with {', '.join(names)}")  # noqa: T201
    assert len(built.functions) == len(list((ROOT / "functions").glob("*/app.py")))
    for name, names in built.functions.items():
        assert 1 <= len(names) <= MAX_LAYERS
        assert all(sizes[layer] > 0 for layer in names)
        assert built.bytes(name) + sum(sizes[layer] for layer in names) < LIMIT


def test_the_onnxruntime_layer_is_small(built: Built) -> None:
    assert built.bytes("OnnxRuntimeLayer") < 85 * 2**20


def _import(built: Built, function: str, layers: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Import a handler as Lambda does, with nothing on the path but the function, its layers and the runtime.

    Layers are laid over each other, as in /opt: one may add to another's package. Functions with the same layers share
    a folder, so that each module is compiled once.
    """
    opt = folder / "-".join(layers)
    for layer in layers:
        shutil.copytree(built.folder / layer / "python", opt, dirs_exist_ok=True, copy_function=_link)
    paths = [str(built.folder / function), str(opt)]
    quantiser = "import onnxruntime.quantization; " if "OnnxLayer" in layers else ""
    code = f"import sys; sys.path[:0] = {paths!r}; {quantiser}import app; print(callable(app.handler))"
    environment: dict[str, Any] = {
        **ENVIRONMENT,
        "SHOAL_STATE_MACHINE_ARN": "arn:aws:states:us-east-1:123456789012:stateMachine:training",
        "SHOAL_TOKEN_SECRET_ARN": "arn:aws:secretsmanager:us-east-1:123456789012:secret:token",
        "AWS_REGION": REGION,
        "PATH": "/usr/bin:/bin",
    }
    # -I -S: neither the user's nor the interpreter's site-packages; a crash tells where.
    command = [str(python313()), "-I", "-S", "-X", "faulthandler", "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def _link(source: str, target: str) -> None:
    if not Path(target).exists():
        Path(target).symlink_to(source)


def test_every_handler_imports_from_what_was_built(built: Built, tmp_path: Path) -> None:
    for function, layers in built.functions.items():
        answer = _import(built, function, layers, tmp_path)
        assert answer.stdout.strip().endswith("True"), f"{function}: {answer.stderr[-2000:]}"
