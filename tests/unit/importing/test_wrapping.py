"""Imported models behind the one code path that serves: as tensors, and as described images, rows and texts."""

from __future__ import annotations

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from shoal_core.errors import BadConfig, BadRequest, ShoalError
from shoal_core.importing.describing import read_description
from shoal_core.importing.limits import MB, Limits
from shoal_core.importing.verifying import VerifiedModel, verify_model
from shoal_core.importing.wrapping import wrap_model
from shoal_core.serving.inference import infer
from shoal_core.serving.prediction import predict
from shoal_core.serving.sessions import ServedModel, session_of
from tests.unit.importing import models

# Limits of a laptop that does other things, too.
LIMITS = Limits(memory_bytes=1280 * MB, wall_seconds=300, cpu_seconds=120)


def served(data: bytes, description: str = "", files: dict[str, bytes] | None = None) -> ServedModel:
    wanted = read_description(description.encode(), lambda name: (files or {})[name])
    verified = verify_model(data, wanted.sample, LIMITS, wanted.hints)
    wrapped = wrap_model(data, verified, wanted)
    return ServedModel("m", 1, wrapped.spec, session_of(wrapped.model, 1769), len(wrapped.model))


def refused(data: bytes, description: str) -> ShoalError:
    with pytest.raises(ShoalError) as caught:
        served(data, description)
    assert caught.value.fix
    return caught.value


def ask(model: ServedModel, *instances: object) -> list[dict]:
    body = json.dumps({"instances": instances}).encode()
    return list(predict(model, body, "application/json")["predictions"])


def picture(color: tuple[int, int, int], size: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), color).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("path", models.LIGHT_MODELS, ids=lambda path: path.stem)
def test_onnx_own_light_models_answer_as_its_reference(path):
    """Nine real architectures, with the input and the expected output of ONNX's own backend test."""
    model = served(path.read_bytes())
    info = model.session.get_inputs()[0]
    head = {"name": info.name, "datatype": "FP32", "shape": list(models.SHAPE)}
    data = models.light_input().tobytes()
    text = json.dumps({"inputs": [{**head, "parameters": {"binary_data_size": len(data)}}]}).encode()
    answer, _ = infer(model, text + data, str(len(text)))
    (output,) = json.loads(answer)["outputs"]
    expected = models.light_output(path)
    assert output["shape"] == list(expected.shape)
    np.testing.assert_allclose(np.reshape(output["data"], expected.shape), expected, rtol=1e-3, atol=1e-7)


def test_there_are_nine_light_models():
    assert len(models.LIGHT_MODELS) == 9


def test_what_isnt_described_takes_tensors_only():
    model = served(models.color_means())
    assert model.spec.kind == "tensors"
    with pytest.raises(BadRequest, match="takes tensors"):
        predict(model, picture((1, 2, 3)), "image/png")


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("batch", ["N", 1])
def test_an_image_is_normalised_inside_of_the_graph(channels_last, batch):
    description = "image: {size: 8, range: [0, 1], mean: [0.1, 0.2, 0.3], std: [0.5, 0.5, 1]}\nlabels: [r, g, b]"
    model = served(models.color_means(channels_last, batch), f"{description}\nactivation: none")
    assert model.spec.image is not None
    assert [entry.name for entry in model.session.get_inputs()] == ["image"]
    colors = [(255, 0, 51), (0, 102, 255), (9, 8, 7)]
    answers = ask(model, *({"b64": base64.b64encode(picture(color, 16)).decode()} for color in colors))
    for color, answer in zip(colors, answers, strict=True):
        expected = (np.array(color) / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.5, 1]
        np.testing.assert_allclose([answer["probabilities"][name] for name in "rgb"], expected, rtol=1e-5)


@pytest.mark.parametrize("channels_last", [False, True])
def test_rows_of_pixels_stay_rows(channels_last):
    model = served(models.column_means(channels_last), "image: {size: 6x8}")
    pixels = np.zeros((6, 8, 3), np.uint8)
    pixels[:, 5] = 255
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    (answer,) = predict(model, buffer.getvalue(), "image/png")["predictions"]
    assert answer["label"] == "5"


def test_blue_may_come_first_and_files_may_name_labels():
    description = "image: {size: 8x8, color: bgr, range: [0, 255]}\nlabels: names.txt\nactivation: none"
    model = served(models.color_means(), description, {"names.txt": b"blue\ngreen\nred\n\n"})
    (answer,) = predict(model, picture((200, 100, 50)), "image/png")["predictions"]
    assert answer["probabilities"] == {"blue": 50, "green": 100, "red": 200}


def test_logits_become_probabilities_and_that_is_told():
    data = models.color_means()
    wanted = read_description(b"image: {size: 8}", lambda name: b"")
    wrapped = wrap_model(data, verify_model(data, limits=LIMITS), wanted)
    assert wrapped.inferred == ("image.layout: channels_first", "task: classification", "activation: softmax")
    model = ServedModel("m", 1, wrapped.spec, session_of(wrapped.model, 1769), 0)
    (answer,) = predict(model, picture((255, 0, 0)), "image/png")["predictions"]
    assert answer["label"] == "0"
    assert sum(answer["probabilities"].values()) == pytest.approx(1)


def test_rows_of_a_classifier_with_a_label_and_probabilities():
    model = served(models.linear_classifier(), "columns: [width, height]\nlabels: [a, b, c]\nfill: {height: 3}")
    first, second, third = ask(model, {"width": 5, "height": 0}, {"width": 0}, {"width": -5, "height": -5})
    assert (first["label"], second["label"], third["label"]) == ("a", "b", "c")
    scores = np.exp(np.array([5, 0, -4.5]))
    np.testing.assert_allclose(list(first["probabilities"].values()), scores / scores.sum(), rtol=1e-5)


def test_a_pipeline_with_one_input_per_column():
    model = served(models.by_column(), "columns: [island, mass]\ncategories: {island: [Dream, Biscoe]}")
    answers = ask(model, {"island": "Biscoe", "mass": 1}, {"island": "Dream", "mass": 2}, {"mass": 3})
    assert [answer["value"] for answer in answers] == [101, 12, 3]


def test_one_probability_is_that_of_the_second_class():
    (answer,) = ask(served(models.one_probability(), "columns: [a, b]\nlabels: ['no', 'yes']"), {"a": 1, "b": 1})
    assert answer["label"] == "yes"
    assert answer["probabilities"]["no"] == pytest.approx(1 - answer["probabilities"]["yes"])
    assert answer["probabilities"]["yes"] == pytest.approx(1 / (1 + np.exp(-2)))


def test_texts_have_the_ids_of_the_models_own_vocabulary():
    description = "text: {vocabulary: words.txt, first: 10, unknown: 5, padding: 3}\ntask: regression"
    model = served(models.token_sum(), description, {"words.txt": b"good\nbad"})
    (answer,) = predict(model, b"Good strange", "text/plain")["predictions"]
    assert answer["value"] == 10 + 5 + 3 + 3


def test_word_pieces_for_an_encoder_with_masks():
    words = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\ngood\n##ness\n"
    description = "text: {vocabulary: v.txt, unit: wordpiece, length: 8, padding: 7}\ntask: regression"
    model = served(models.masked_sum(), description, {"v.txt": words})
    (answer,) = predict(model, b"Goodness bad", "text/plain")["predictions"]
    assert answer["value"] == 2 + 4 + 5 + 1 + 3
    with pytest.raises(BadConfig, match=r"has no \[CLS\]"):
        served(models.masked_sum(), description, {"v.txt": b"a\n"})


@pytest.mark.parametrize(
    ("make", "description", "named"),
    [
        (models.color_means, "image: {size: 9}", r"shape \[3, 9, 9\], and input 'pixels' takes \[3, 8, 8\]"),
        (models.color_means, "image: {size: 8}\nlabels: [a, b]", "2 labels, and output 'probabilities' has 3 numbers"),
        (models.color_means, "image: {size: 8}\nlabels: [a, b, a]", "label 'a' is there twice"),
        (models.color_means, "image: {size: 8}\noutput: y", "no output 'y'"),
        (models.color_means, "image: {size: 8}\ntask: regression", "has 3 numbers per sample"),
        (models.color_means, "columns: [a]", r"shape \[1\], and input 'pixels' takes \[3, 8, 8\]"),
        (models.by_column, "image: {size: 8}", "has the inputs island, mass"),
        (models.by_column, "columns: [island, weight]", "columns are island, weight, and the model's inputs"),
        (models.by_column, "columns: [island, mass]", "Input 'island' is BYTES"),
        (models.linear_classifier, "image: {size: 8}", r"input 'X' has shape \[-1, 2\]"),
        (models.linear_classifier, "colums: [a, b]", "unknown field 'colums'"),
        (models.linear_classifier, "image: {sice: 8}", "unknown field 'image.sice'"),
        (models.linear_classifier, "image: {size: 8}\ncolumns: [a]", "a model has one"),
        (models.linear_classifier, "columns: [a, b]\nfill: {c: 1}", "'c' isn't one of columns"),
        (models.linear_classifier, "columns: [a, b]\nlabels: ../../etc/passwd", "names the file"),
        (models.linear_classifier, "- a", "holds a list"),
        (models.linear_classifier, "columns: [a, b]\nlabels: [no, yes, 3]", "read as a boolean"),
    ],
)
def test_a_description_that_doesnt_fit_is_refused_by_name(make, description, named):
    assert re.search(named, refused(make(), description).reason)


def test_a_wrapped_model_is_the_same_bytes_each_time():
    data = models.linear_classifier()
    wanted = read_description(b"columns: [a, b]", lambda name: b"")
    verified = verify_model(data, limits=LIMITS)
    assert wrap_model(data, verified, wanted).model == wrap_model(data, verified, wanted).model
    assert VerifiedModel.model_validate_json(verified.model_dump_json()) == verified


def test_free_sizes_are_those_of_the_description():
    shape: list[int | str] = ["N", 3, "H", "W"]
    node = models.helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)
    data = models.model([node], [models.value("x", shape)], [models.value("y", ["N", 3])])
    wanted = read_description(b"image: {size: 5x7}", lambda name: b"")
    assert verify_model(data, None, LIMITS, wanted.hints).sample_shapes == {"x": (1, 3, 5, 7)}
    with pytest.raises(BadConfig, match="isn't UTF-8"):
        read_description(b"labels: l.txt", lambda name: b"\xff\xfe\xff")
