"""Datasets in which anomalies are sought: with labels that only tell how well they are found, or without any."""

import numpy as np
import pytest

from shoal_core.data.anomalies import CLASSES, UNLABELLED, folder_target, labelled_target, normal_labels
from shoal_core.data.config import parse_config
from shoal_core.data.spec import TargetSpec
from shoal_core.data.tables.cells import Cells
from shoal_core.data.tables.targets import encode_targets
from shoal_core.errors import BadConfig


def config(text: str = "recipe: autoencoder"):
    return parse_config(text.encode())


@pytest.mark.parametrize("text", ["recipe: autoencoder", "task: anomaly", "{task: anomaly, recipe: auto}"])
def test_recipe_or_task_alone_asks_for_anomalies(text):
    assert config(text).finds_anomalies
    assert not config("recipe: mlp").finds_anomalies


@pytest.mark.parametrize("text", ["{task: regression, recipe: autoencoder}", "{task: anomaly, recipe: cnn}"])
def test_recipe_and_task_must_go_together(text):
    with pytest.raises(BadConfig, match="autoencoder"):
        config(text)


@pytest.mark.parametrize(
    ("asked", "normal"), [("7", ("7",)), ("false", ("false",)), ("[good, 0]", ("good", "0")), ("Fine", ("Fine",))]
)
def test_normal_labels_are_read_as_they_stand_in_the_data(asked, normal):
    assert config(f"{{recipe: autoencoder, anomaly: {{normal: {asked}}}}}").anomaly.normal == normal


@pytest.mark.parametrize("quantile", ["0.5", "1", "two"])
def test_a_quantile_that_is_none_is_refused(quantile):
    with pytest.raises(BadConfig, match=r"anomaly\.quantile"):
        config(f"{{task: anomaly, anomaly: {{quantile: {quantile}}}}}")


def test_labels_that_are_called_normal_are():
    found = labelled_target(["Normal", "crack", "ok"], config(), "column 'state'")
    assert found == TargetSpec(task="anomaly", classes=CLASSES, normal=("Normal", "ok"))


@pytest.mark.parametrize(
    ("labels", "normal"), [(["0", "1"], ("0",)), (["0", "1", "2"], ()), (["false", "true"], ("false",))]
)
def test_0_and_false_are_normal_of_two_labels_only(labels, normal):
    assert normal_labels(labels, config()) == normal


def test_labels_need_a_normal_one():
    with pytest.raises(BadConfig, match="'cats', 'dogs'") as caught:
        labelled_target(["cats", "dogs"], config(), "column 'kind'")
    assert "anomaly: {normal:" in caught.value.fix
    asked = config("{task: anomaly, anomaly: {normal: birds}}")
    with pytest.raises(BadConfig, match="no label 'birds'"):
        labelled_target(["cats", "dogs"], asked, "column 'kind'")


def test_folders_of_other_names_count_for_nothing_and_that_is_told():
    assert folder_target(["good", "cracked"], config(), "parts.zip")[0].normal == ("good",)
    target, warnings = folder_target(["cats", "dogs"], config(), "pets.zip")
    assert target == UNLABELLED
    assert "'cats', 'dogs'" in warnings[0]
    assert folder_target([], config(), "flat.zip") == (UNLABELLED, ())


def test_known_anomalies_are_1_and_everything_else_is_0():
    target = TargetSpec(task="anomaly", column="state", classes=CLASSES, normal=("ok", "fine"))
    encoded, problems = encode_targets(target, Cells.of(["ok", "broken", None, "fine", "ok"]), {})
    assert encoded.tolist() == [0, 1, 0, 0, 0]
    assert encoded.dtype == np.int64
    assert problems == []
    unlabelled, problems = encode_targets(UNLABELLED, Cells.missing(3), {})
    assert unlabelled.tolist() == [0, 0, 0]
    assert problems == []
