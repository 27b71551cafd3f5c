"""Pipelines as they are brought and served: real sessions, real images, one model from the outside."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from shoal_core.data.texts.wordpiece import FIRST, LAST
from shoal_core.errors import BadConfig, NotFound, ShoalError
from shoal_core.importing.piping import Piped, pipeline_version, prepare_pipeline, write_pipeline
from shoal_core.keys import ModelKeys
from shoal_core.serving.inference import infer, metadata
from shoal_core.serving.pipelines.definition import Pipeline, decode_pipeline, read_pipeline
from shoal_core.serving.prediction import predict, predict_each
from tests.unit.serving.pipelines.models import Shelf, encoder_model, halves_model, halves_spec, mask_model

FIND = b"""
description: Which side of the bright thing is brighter
input: {image: {size: 32, fit: stretch}}
nodes:
  small: {resize: input, size: 8}
  pixels: {normalize: small}
  mask: {model: bright, inputs: pixels}
  thing: {crop: input, mask: mask, size: 4, color: grey, margin: 0, square: false}
  side: {model: halves, inputs: {image: thing}}
output: side
"""
EMBED = b"""
input: {text: {vocabulary: vocab.txt, length: 6}}
nodes:
  tokens: {pieces: input}
  encoder: {model: encoder, inputs: {input_ids: tokens.input_ids, attention_mask: tokens.attention_mask}}
  sentence: {pool: encoder, mask: tokens.attention_mask, unit: false}
output: sentence
"""
WORDS = ("[PAD]", "[UNK]", FIRST, LAST, "good", "bad", "film")


@pytest.fixture
def shelf() -> Shelf:
    found = Shelf()
    found.put("bright", mask_model())
    found.put("halves", halves_model(), halves_spec())
    found.put("encoder", encoder_model(len(WORDS)))
    return found


def vocabulary(name: str) -> bytes:
    if name != "vocab.txt":
        raise NotFound(f"There is no {name}.")
    return "\n".join(WORDS).encode() + b"\n"


def deploy(shelf: Shelf, name: str, text: bytes) -> Piped:
    piped = prepare_pipeline(text, vocabulary, shelf.models)
    version = shelf.catalog.production.get(name, 0) + 1
    write_pipeline(shelf.store, ModelKeys(name, version), piped)
    shelf.catalog.production[name] = version
    return piped


def photo(left: int, right: int) -> bytes:
    """A dark photo with a small thing in a corner, whose halves are of two brightnesses."""
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[20:28, 4:8], pixels[20:28, 8:12] = left, right
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


def test_a_thing_is_found_cut_out_and_classified(shelf):
    deploy(shelf, "find", FIND)
    served = shelf.models.production("find")
    for left, right, label in ((255, 160, "left"), (160, 255, "right")):
        answer = predict(served, photo(left, right), "image/png")
        assert (answer["model"], answer["version"], answer["task"]) == ("find", 1, "classification")
        assert answer["predictions"][0]["label"] == label
    whole = predict(shelf.models.production("halves"), photo(160, 255), "image/png")
    assert whole["predictions"][0]["label"] == "left"  # without the crop the thing lies in the left half


def test_a_batch_answers_as_its_samples_do_alone(shelf):
    deploy(shelf, "find", FIND)
    served = shelf.models.production("find")
    photos = [photo(*pair) for pair in ((255, 160), (160, 255), (200, 130))]
    together = predict_each(served, [{"bytes": data} for data in photos])
    assert together == [predict(served, data, "image/png")["predictions"][0] for data in photos]
    found = predict_each(served, [{"bytes": photos[0]}, {"bytes": b"no image"}])
    assert found[0] == together[0] and isinstance(found[1], ShoalError)


def test_a_text_becomes_one_vector(shelf):
    piped = deploy(shelf, "embed", EMBED)
    assert piped.signature["outputs"] == [{"name": "vector", "datatype": "FP32", "shape": [-1, len(WORDS)]}]
    answer = predict(shelf.models.production("embed"), json.dumps(["Good film!", "bad"]).encode(), "application/json")
    expected = np.zeros((2, len(WORDS)))
    expected[0, [1, 2, 3, 4, 6]] = 1 / 5
    expected[1, [2, 3, 5]] = 1 / 3
    np.testing.assert_allclose([entry["value"] for entry in answer["predictions"]], expected, atol=1e-6)


def test_the_protocol_of_tensors_serves_it_too(shelf):
    deploy(shelf, "embed", EMBED)
    served = shelf.models.production("embed")
    assert metadata(served)["inputs"] == [{"name": "tokens", "datatype": "INT32", "shape": [-1, 6]}]
    tensor = {"name": "tokens", "datatype": "INT32", "shape": [1, 6], "data": [4, 7, 5, 0, 0, 0]}
    body, _ = infer(served, json.dumps({"inputs": [tensor]}).encode(), None)
    (output,) = json.loads(body)["outputs"]
    assert (output["name"], output["shape"]) == ("vector", [1, len(WORDS)])


def test_versions_are_pinned_unless_an_alias_is_followed(shelf):
    followed = FIND.replace(b"{model: halves,", b"{model: halves, version: production,")
    pinned, follows = deploy(shelf, "pinned", FIND), deploy(shelf, "follows", followed)
    assert pinned.nodes["side"] == {"model": "halves", "version": 1, "follows": None}
    assert follows.nodes["side"] == {"model": "halves", "version": 1, "follows": "production"}
    other = halves_spec()
    swapped = other.model_copy(update={"target": other.target.model_copy(update={"classes": ("LEFT", "RIGHT")})})
    shelf.put("halves", halves_model(), swapped)
    shelf.models._aliases.clear()
    sessions = [shelf.models.production(name).session for name in ("pinned", "follows")]
    found = [session.model(session.pipeline.nodes["side"]).version for session in sessions]
    assert found == [1, 2]


def test_an_alias_that_means_other_classes_now_is_refused(shelf):
    deploy(shelf, "follows", FIND.replace(b"{model: halves,", b"{model: halves, version: production,"))
    served, one = shelf.models.production("follows"), photo(255, 90)
    shelf.put("halves", halves_model(), halves_spec())
    shelf.models._aliases.clear()
    assert predict(served, one, "image/png")["predictions"][0]["label"] == "left"
    spec = halves_spec()
    swapped = spec.model_copy(update={"target": spec.target.model_copy(update={"classes": ("right", "left")})})
    shelf.put("halves", halves_model(), swapped)
    shelf.models._aliases.clear()
    with pytest.raises(BadConfig, match=r"Node 'side' .*Version 3 of model 'halves' has other classes") as caught:
        predict(served, one, "image/png")
    assert caught.value.fix == "Import the pipeline again."


def test_the_listed_version_tells_its_nodes(shelf):
    piped = deploy(shelf, "find", FIND)
    version = pipeline_version(1, piped, "import-1", "2026-11-21T00:00:00Z", {"key": "models/find/pipeline.yaml"})
    assert version.task == "classification" and version.bytes == len(piped.document)
    assert set(version.lineage["pipeline"]) == {"mask", "side"}
    again = prepare_pipeline(FIND, vocabulary, shelf.models)
    assert again.document == piped.document
    decoded = decode_pipeline(piped.document)
    assert list(decoded.nodes) == ["small", "pixels", "mask", "thing", "side"] and decoded == piped.pipeline


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"inputs: pixels", b"inputs: nowhere", "'nowhere', which isn't a node above it"),
        (b"{resize: input, size: 8}", b"{resize: side, size: 8}", "'side', which isn't a node above it"),
        (b"output: side", b"output: thing", "output 'thing' isn't a node that is a model or a pool"),
        (b"{resize: input, size: 8}", b"{resise: input, size: 8}", "node 'small' isn't of one kind"),
        (b"{resize: input, size: 8}", b"{resize: input, sice: 8}", "nodes.small.sice"),
        (b"{normalize: small}", b"{normalize: small, std: [0]}", "std can't be 0"),
        (b"{image: {size: 32, fit: stretch}}", b"{}", "a pipeline takes an image or a text"),
        (b"{resize: input, size: 8}", b"{resize: input, size: 9}", "Node 'mask'"),
        (b"{model: bright, inputs: pixels}", b"{model: dark, inputs: pixels}", "dark"),
        (b"{model: bright, inputs: pixels}", b"{model: bright, version: 7, inputs: pixels}", "version 7"),
        (b"{image: thing}", b"{picture: thing}", "takes image"),
        (b"output: side", b"output: mask", "answers \\[1, 8, 8\\]"),
        (b"input: {image", b"inputt: {image", "input"),
        (b"nodes:", b"nodes: [1", "isn't valid YAML"),
    ],
)
def test_what_cant_work_is_refused_by_name(shelf, old, new, reason):
    text = FIND.replace(old, new)
    assert text != FIND
    if b"output: mask" in new:
        shelf.put("bright", mask_model(), halves_spec())
    with pytest.raises((ShoalError, KeyError), match=reason):
        prepare_pipeline(text, vocabulary, shelf.models)


def test_a_pipeline_in_a_pipeline_is_refused(shelf):
    deploy(shelf, "find", FIND)
    with pytest.raises(BadConfig, match="'find' is a pipeline itself"):
        prepare_pipeline(FIND.replace(b"model: halves", b"model: find"), vocabulary, shelf.models)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("../secret", "names the file"), ("a/b", "names the file"), ("other.txt", "There is no other.txt")],
)
def test_a_vocabulary_lies_beside_the_pipeline(name, reason):
    with pytest.raises(ShoalError, match=reason):
        read_pipeline(EMBED.replace(b"vocab.txt", name.encode()), vocabulary)


def test_a_vocabulary_has_its_frame():
    with pytest.raises(BadConfig, match=r"no line '\[CLS\]'"):
        read_pipeline(EMBED, lambda name: b"a\nb\n")


def test_a_vocabulary_in_the_pipeline_has_its_frame_too():
    with pytest.raises(BadConfig, match=r"The vocabulary has no line '\[CLS\]'"):
        read_pipeline(EMBED.replace(b"vocab.txt", b"[good, bad]"), vocabulary)


def test_only_line_breaks_end_a_line_of_a_vocabulary():
    words = ("[UNK]", FIRST, LAST, "\x85", "\u2028", "good")
    text = read_pipeline(EMBED, lambda name: "\r\n".join(words).encode() + b"\r\n").input.text
    assert text is not None
    assert text.vocabulary == words


def test_an_empty_mask_takes_the_whole_image(shelf):
    deploy(shelf, "find", FIND)
    answer = predict(shelf.models.production("find"), photo(0, 0), "image/png")
    assert answer["predictions"][0]["probability"] == 0.5


def test_the_schema_holds_only_what_is_known():
    assert set(Pipeline.model_fields) == {"schema_version", "description", "input", "nodes", "output", "production"}
