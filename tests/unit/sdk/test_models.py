import base64
import io
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import shoal
from shoal._models import read_rows


@pytest.fixture
def model(cloud):
    return shoal.model("digits")


def last(api):
    _, path, content_type, body = api.requests[-1]
    assert path == "/models/digits/predict"
    return content_type, body


def test_models_are_listed(cloud):
    (listed,) = shoal.models()
    assert (listed.name, listed.production, listed.document["metrics"]["f1"]) == ("digits", 1, 0.9795)


def test_an_unknown_model_is_not_found(cloud):
    with pytest.raises(shoal.NotFound, match="models/none"):
        shoal.model("none")


def test_an_image_file_goes_as_it_is(model, api, tmp_path):
    (tmp_path / "three.png").write_bytes(b"png")
    prediction = model.predict(str(tmp_path / "three.png"))
    assert prediction == shoal.Prediction("3", 0.9, {"3": 0.9})
    assert last(api) == ("image/png", b"png")


def test_bytes_go_as_they_are(model, api):
    assert model.predict(b"jpeg").label == "3"
    assert last(api) == ("application/octet-stream", b"jpeg")


@pytest.mark.parametrize("pixels", [np.eye(8, dtype=np.uint8), np.eye(8, dtype=np.uint8)[..., None]])
def test_an_array_becomes_a_png(model, api, pixels):
    assert model.predict(pixels).label == "3"
    content_type, body = last(api)
    assert content_type == "image/png"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(body))), np.eye(8))


def test_a_pil_image_becomes_a_png(model, api):
    model.predict(Image.new("RGB", (4, 4), (1, 2, 3)))
    assert Image.open(io.BytesIO(last(api)[1])).getpixel((0, 0)) == (1, 2, 3)


@pytest.mark.parametrize("wrong", [np.zeros((8, 8)), np.zeros((2, 3, 4, 5), np.uint8), object(), 3])
def test_what_cant_be_an_image_is_refused(model, wrong):
    with pytest.raises(shoal.BadRequest):
        model.predict(wrong)


def test_one_row_gives_one_prediction(model, api):
    assert model.predict({"a": np.float32(1.5), "b": None}).label == "3"
    assert json.loads(last(api)[1]) == {"instances": [{"a": 1.5, "b": None}]}


def test_several_instances_give_a_list_in_one_request(model, api):
    api.labels = ["1", "2"]
    assert [answer.label for answer in model.predict([{"a": 1}, b"png"])] == ["1", "2"]
    image = {"b64": base64.b64encode(b"png").decode()}
    assert json.loads(last(api)[1]) == {"instances": [{"a": 1}, image]}
    assert model.predict([]) == []


def test_nan_is_refused_with_the_way_to_say_it(model):
    with pytest.raises(shoal.BadRequest, match="None for a missing value"):
        model.predict({"a": float("nan")})


def test_what_the_model_cant_read_is_its_own_words(model):
    with pytest.raises(shoal.BadRequest, match=r"can't be decoded. Fix: Send a PNG"):
        model.predict(b"broken")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.csv", "a,b\n1,\n"),
        ("x.json", '{"a": "1", "b": null}'),
        ("y.json", '{"instances": [{"a": "1", "b": null}]}'),
        ("x.jsonl", '{"a": "1", "b": null}\n\n'),
    ],
)
def test_rows_of_a_file(model, api, tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert read_rows(tmp_path / name) == [{"a": "1", "b": None}]
    assert len(model.predict(tmp_path / name)) == 1


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.csv", "a,b\n1,2\n1\n", "line 3: 1 fields"),
        ("x.json", "{", "isn't valid JSON"),
        ("x.json", "[1]", "holds no rows"),
        ("x.jsonl", '{"a": 1}\nno', "isn't valid JSON"),
    ],
)
def test_bad_rows_are_named(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(shoal.BadRequest, match=message):
        read_rows(tmp_path / name)


def test_the_sdk_doesnt_import_the_cloud_nor_numpy():
    code = (
        "import sys, shoal, shoal.cli; print([m for m in ('shoal.local', 'moto', 'numpy', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there_and_documented():
    for name in shoal.__all__:
        assert getattr(shoal, name).__doc__, name


def test_only_line_feeds_end_a_line_of_json(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": "x\u2028y"}\r\n{"a": "x\x85y"}\n', "utf-8")
    assert read_rows(path) == [{"a": "x\u2028y"}, {"a": "x\x85y"}]
