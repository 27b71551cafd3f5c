"""Answers of small real models, from the request's bytes to what a person reads."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from shoal_core.data.spec import PreprocessingSpec
from shoal_core.errors import BadRequest, BadTable, TooLarge
from shoal_core.graphs.export import export_model
from shoal_core.graphs.recipes import build_forward, default_config
from shoal_core.graphs.signature import (
    CategoriesInput,
    Classification,
    Multilabel,
    NetworkSignature,
    NumbersInput,
    SequenceInput,
    TokenColumn,
    TokensInput,
)
from shoal_core.graphs.training_step import forward_with_parameters
from shoal_core.serving.prediction import answers, predict
from shoal_core.serving.sessions import ServedModel, session_of
from tests.unit.serving.pipelines.models import halves_model, halves_spec
from tests.unit.training.datasets import profile_spec, sequence_spec, text_spec

TEXTS = NetworkSignature(
    tokens=TokensInput(columns=(TokenColumn(length=12, cardinality=20),)), task=Classification(classes=3)
)
WINDOWS = NetworkSignature(
    sequence=SequenceInput(steps=12, mean=(2.0, 3.0), std=(1.0, 2.0), missing=(False, True)),
    task=Classification(classes=3),
)
LABELS = NetworkSignature(
    numbers=NumbersInput(mean=(0.0, 0.0), std=(1.0, 1.0), missing=(False, False)),
    categories=CategoriesInput(cardinalities=(5,)),
    tokens=TokensInput(columns=(TokenColumn(length=6, cardinality=10),)),
    task=Multilabel(classes=3),
)


def served(spec: PreprocessingSpec, signature: NetworkSignature, recipe: str) -> ServedModel:
    forward = build_forward(recipe, default_config(recipe, signature, 100), signature, seed=1)
    graph = forward_with_parameters(forward).SerializeToString()
    model = export_model(graph, forward.initial, signature.task.kind, spec.target.classes)
    return ServedModel("tiny", 1, spec, session_of(model, 1769), len(model))


@pytest.fixture(scope="module")
def texts() -> ServedModel:
    return served(text_spec(), TEXTS, "fasttext")


def ask(model: ServedModel, value: object) -> list[dict[str, object]]:
    return predict(model, json.dumps(value).encode(), "application/json")["predictions"]


def test_a_text_is_answered_however_it_is_sent(texts):
    plain = predict(texts, "word3 Word5 and more".encode("utf-8-sig"), "text/plain; charset=utf-8")["predictions"]
    assert plain == ask(texts, {"text": "word3 Word5 and more"})
    assert plain == ask(texts, {"instances": [{"text": "word3 Word5 and more"}]})
    assert set(plain[0]) == {"label", "probability", "probabilities"}
    assert sum(plain[0]["probabilities"].values()) == pytest.approx(1, abs=1e-6)


def test_texts_are_answered_in_order(texts):
    rows = [{"text": "word1 word2"}, {"text": ""}, {"text": None}, {}, {"text": "word9"}]
    found = ask(texts, {"instances": rows})
    assert found == [ask(texts, [row])[0] for row in rows]
    assert found[1] == found[2] == found[3] != found[0]


def test_a_text_that_is_not_utf_8_is_refused(texts):
    with pytest.raises(BadRequest, match="byte 1 is wrong"):
        predict(texts, b"a\xff", "text/plain")


def test_labels_are_those_at_least_as_likely_as_not():
    model = served(profile_spec(), LABELS, "mlp")
    rows = [
        {"x0": value, "kind": kind, "text": text}
        for value in (-30, 0, 30)
        for kind in ("a", None)
        for text in ("word1 word2", "word7")
    ]
    found = ask(model, rows)
    assert len({len(answer["labels"]) for answer in found}) > 1
    for answer in found:
        assert set(answer) == {"labels", "probabilities"} and list(answer["probabilities"]) == ["a", "b", "c"]
        likely = {label: p for label, p in answer["probabilities"].items() if p >= 0.5}
        assert answer["labels"] == sorted(likely, key=lambda label: -likely[label])


def test_an_answer_without_numbers_names_no_class():
    rows = np.array([[np.nan, 0.5], [0.5, np.nan], [0.25, 0.75], [-np.inf, 0]], np.float32)
    assert [answer["label"] for answer in answers(halves_spec(), rows)] == [None, None, "right", "right"]


def test_a_model_of_several_columns_does_not_take_a_text():
    model = served(profile_spec(), LABELS, "mlp")
    with pytest.raises(BadRequest, match="doesn't take one text"):
        predict(model, b"word1", "text/plain")


def test_a_window_is_answered_by_its_last_rows():
    model = served(sequence_spec(), WINDOWS, "rnn")
    rows = [{"t": place, "x0": place % 5, "x1": None if place == 7 else place / 3, "y": "a"} for place in range(20)]
    found = ask(model, {"instances": [{"rows": rows}, {"rows": rows[8:]}, {"rows": rows[:12]}]})
    assert found[0] == found[1] != found[2]
    assert ask(model, {"rows": rows[:12]}) == [found[2]]
    with pytest.raises(BadTable, match="Instance 2 has 3 rows, and the model looks at 12"):
        ask(model, [{"rows": rows}, {"rows": rows[:3]}])
    with pytest.raises(BadRequest) as caught:
        predict(model, b"{", "application/json")
    assert '"rows"' in caught.value.fix and "12 rows, oldest first" in caught.value.fix


def test_what_a_text_model_expects_is_told(texts):
    with pytest.raises(BadRequest) as caught:
        predict(texts, b"", "application/json")
    assert 'text/plain, or JSON {"instances": [{"text": "..."}]}' in caught.value.fix


def test_small_files_dont_fill_the_memory_when_they_are_decoded(monkeypatch):
    data = io.BytesIO()
    Image.new("L", (1, 1)).save(data, "PNG")
    model = ServedModel("halves", 1, halves_spec(), session_of(halves_model(), 1769), 0)
    image = {"b64": base64.b64encode(data.getvalue()).decode()}
    monkeypatch.setattr("shoal_core.serving.prediction.MAX_PIXEL_BYTES", 40)
    assert len(ask(model, [image, image])) == 2
    with pytest.raises(TooLarge, match=r"3 images.*2 are allowed"):
        ask(model, [image] * 3)


def test_padding_and_length_reach_the_model(texts):
    long = " ".join(f"word{index % 18}" for index in range(12))
    assert ask(texts, {"text": long}) == ask(texts, {"text": long + " word4 word4"})
    tokens = texts.spec.encode_rows([{"text": "word0"}])["tokens"]
    assert tokens.dtype == np.int32 and tokens.tolist() == [[2] + [0] * 11]
