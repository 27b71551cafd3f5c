"""Runs that seek anomalies in real images, tables and series: nothing but the data, or labels to score them by."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest

from shoal_core.data.config_types import SPLITS
from shoal_core.data.shards import decode_shard
from shoal_core.errors import BadConfig
from shoal_core.keys import DatasetKeys, RunKeys
from shoal_core.serving.batches.columns import AnswerColumns
from shoal_core.serving.inference import infer, metadata
from shoal_core.serving.prediction import predict, predict_each
from shoal_core.training.settings import resolve_settings
from tests.support import real_data
from tests.unit.training.anomaly_runs import RUN, VERSION, Finished, finished, prepared, zeros_and_others

PENGUINS = {"penguins.csv": real_data.PENGUINS.read_bytes()}
ADELIE = {name: value for name, value in real_data.rows(real_data.PENGUINS)[0].items() if name != "rownames"}
WEATHER = "task: anomaly\nsequence: {time: time_hour, id: origin, window: 12, stride: 12}\nrounds: 2\n"


@pytest.fixture(scope="module")
def digits() -> Finished:
    """Zeros are normal."""
    archive = real_data.zipped(zeros_and_others())
    return finished({"digits.zip": archive}, "recipe: autoencoder\nanomaly: {normal: 0, quantile: 0.95}\n")


@pytest.fixture(scope="module")
def penguins() -> Finished:
    """Without labels."""
    return finished(PENGUINS, "recipe: autoencoder\nrounds: 4\n")


def test_digits_other_than_zero_are_found(digits: Finished):
    metrics = digits.evaluation.metrics
    assert digits.evaluation.task == metrics.task == "anomaly"
    assert metrics.roc_auc > 0.97
    assert metrics.pr_auc > 0.97
    assert metrics.anomalies > 5
    assert metrics.recall > 0.9
    assert metrics.precision > 0.8
    assert metrics.loss < 0.3 < digits.evaluation.baseline.metrics["loss"] == 1.0
    assert digits.evaluation.baseline.metrics["roc_auc"] == 0.5


def test_known_anomalies_are_on_every_side_and_nothing_is_varied(digits: Finished):
    for split in SPLITS:
        shards = [decode_shard(digits.artifacts.read(file.key)) for file in digits.manifest.shards(split)]
        known = sum(int(shard["target"].sum()) for shard in shards)
        assert known == digits.manifest.class_counts[split]["anomalous"] > 0
    settings, _ = resolve_settings(digits.manifest.config, digits.manifest)
    assert (settings.loss, settings.recipe, settings.augment) == ("reconstruction", "autoencoder", {})
    assert settings.anomaly_quantile == 0.95


def test_the_model_scores_an_image_and_says_whether_it_is_strange(digits: Finished):
    zero, seven = (next(data for name, data in zeros_and_others().items() if name.startswith(d)) for d in "07")
    instances = {"instances": [{"b64": base64.b64encode(data).decode()} for data in (zero, seven)]}
    answer = predict(digits.model, json.dumps(instances).encode(), "application/json")
    assert answer["task"] == "anomaly"
    first, second = answer["predictions"]
    assert (first["anomalous"], second["anomalous"]) == (False, True)
    assert first["score"] < digits.evaluation.metrics.threshold < second["score"]
    assert predict_each(digits.model, [{"bytes": zero}, {"bytes": b"?"}])[0] == first


def test_the_inference_protocol_has_both_outputs(digits: Finished):
    told = metadata(digits.model)
    assert [(output["name"], output["datatype"]) for output in told["outputs"]] == [
        ("score", "FP32"),
        ("anomalous", "BOOL"),
    ]
    request = {"inputs": [{"name": "image", "shape": [2, 1, 8, 8], "datatype": "UINT8", "data": [0] * 128}]}
    body, _ = infer(digits.model, json.dumps(request).encode(), None)
    score, called = json.loads(body)["outputs"]
    assert score["shape"] == called["shape"] == [2]
    assert called["data"] == [True, True]


def test_a_table_needs_no_target(penguins: Finished):
    assert penguins.manifest.spec.target.column is None
    assert set(penguins.manifest.spec.table.names) == set(real_data.rows(real_data.PENGUINS)[0]) - {"rownames"}
    assert penguins.manifest.class_counts == {}
    metrics = penguins.evaluation.metrics
    assert (metrics.roc_auc, metrics.anomalies, metrics.recall) == (None, 0, None)
    assert metrics.loss < 0.5
    giant = ADELIE | {"flipper_length_mm": 230, "bill_depth_mm": 21, "body_mass_g": 3000}
    usual, strange = predict(penguins.model, json.dumps({"instances": [ADELIE, giant]}).encode(), "application/json")[
        "predictions"
    ]
    assert strange["score"] > 3 * usual["score"]
    assert strange["anomalous"]


def test_extremes_stay_extreme(penguins: Finished):
    assert penguins.manifest.statistics.bounds == {}
    values = [ADELIE | {"body_mass_g": mass} for mass in (3750, 8000, 1e30)]
    found = predict(penguins.model, json.dumps({"instances": values}).encode(), "application/json")["predictions"]
    scores = [prediction["score"] for prediction in found]
    assert scores == sorted(scores)
    assert np.isfinite(scores).all()


def test_batches_get_two_columns(penguins: Finished):
    columns = AnswerColumns(penguins.manifest.spec.target, probabilities=True, taken=["score"])
    assert tuple(columns.names) == ("predicted_score", "anomalous", "error", "error_reason", "error_fix")
    assert columns.cells({"score": 0.5, "anomalous": True}) == [0.5, "true", None, None, None]
    assert columns.flags == {"anomalous"}


def test_the_same_data_and_seed_give_the_same_model(penguins: Finished):
    again = finished(PENGUINS, "recipe: autoencoder\nrounds: 4\n")
    key = RunKeys(RUN).model
    assert again.artifacts.read(key) == penguins.artifacts.read(key)


def test_a_column_may_say_what_is_strange():
    settings = "task: anomaly\ntarget: species\nanomaly: {normal: [Adelie, Chinstrap]}\n"
    _, manifest = prepared(PENGUINS, settings)
    counts = {label: sum(manifest.class_counts[split][label] for split in SPLITS) for label in ("normal", "anomalous")}
    species = [row["species"] for row in real_data.rows(real_data.PENGUINS)]
    assert counts["anomalous"] == species.count("Gentoo")
    assert counts["normal"] == len(species) - species.count("Gentoo")
    assert "species" not in manifest.spec.table.names


@pytest.mark.parametrize(
    ("states", "settings", "anomalies"),
    [("good bent", "", 40), ("cat dog", "", None), ("cat dog", "target: state\nanomaly: {normal: dog}\n", 40)],
    ids=["called", "nothing", "told"],
)
def test_a_table_of_labels_may_say_what_is_strange(states, settings, anomalies):
    first, second = states.split()
    images = dict(list(real_data.digits().items())[:80])
    rows = [f"{name},{second if number % 2 else first}" for number, name in enumerate(images)]
    archive = real_data.zipped({"labels.csv": "\n".join(["file,state", *rows]).encode(), **images})
    artifacts, manifest = prepared({"parts.zip": archive}, f"recipe: autoencoder\n{settings}")
    assert sum(manifest.samples.values()) == 80
    found = sum(counts["anomalous"] for counts in manifest.class_counts.values()) if manifest.class_counts else None
    assert found == anomalies
    report = json.loads(artifacts.read(DatasetKeys("strange", VERSION).report))
    assert any("count for nothing" in warning for warning in report["warnings"]) == (anomalies is None)


def test_windows_of_a_series_are_scored():
    run = finished({"weather.csv": real_data.WEATHER.read_bytes()}, WEATHER)
    assert run.manifest.spec.target.source == "none"
    rows = [row for row in real_data.rows(real_data.WEATHER) if row["origin"] == "EWR"][:12]
    (found,) = predict(run.model, json.dumps({"instances": [{"rows": rows}]}).encode(), "application/json")[
        "predictions"
    ]
    assert set(found) == {"score", "anomalous"}


@pytest.mark.parametrize(
    ("files", "settings", "message"),
    [
        ({"texts.zip": real_data.zipped({"a/1.txt": b"a text", "b/2.txt": b"another"})}, "", "texts"),
        ({"operations.jsonl": real_data.texts_as_lines()}, "", "'text' .* holds texts"),
        (PENGUINS, "target: species\n", "Which labels"),
        (PENGUINS, "target: species\nanomaly: {normal: Emperor}\n", "no label 'Emperor'"),
        ({"weather.csv": real_data.WEATHER.read_bytes()}, WEATHER.replace("stride: 12", "horizon: 2"), "horizon"),
    ],
    ids=["texts", "text-column", "no-normal", "unknown-normal", "horizon"],
)
def test_what_cant_be_searched_is_refused(files, settings, message):
    text = settings if "task" in settings else f"recipe: autoencoder\n{settings}"
    with pytest.raises(BadConfig, match=message):
        prepared(files, text)


def test_another_recipe_cant_seek_anomalies_and_this_one_nothing_else(penguins: Finished):
    config = penguins.manifest.config
    with pytest.raises(BadConfig, match="isn't for anomaly"):
        resolve_settings(config.model_copy(update={"recipe": "mlp"}), penguins.manifest)
    _, manifest = prepared(PENGUINS, "target: species\n")
    with pytest.raises(BadConfig, match="autoencoder isn't for classification"):
        resolve_settings(manifest.config.model_copy(update={"recipe": "autoencoder"}), manifest)
