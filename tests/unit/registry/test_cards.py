"""Model cards: whatever the task, and whatever people wrote into them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from shoal_core.errors import NotFound
from shoal_core.registry.card_files import read_card
from shoal_core.registry.card_markdown import markdown
from shoal_core.registry.card_page import page
from shoal_core.training.metrics import ClassificationCounts, RegressionCounts, metrics_of, summary
from shoal_core.training.multilabel import MultilabelCounts
from tests.support.stores import MemoryStore

HOSTILE = '<script>alert(1)</script> | `x` & "quoted"\n# heading'


def card(counts: Any, classes: list[str], said: str = "") -> dict[str, Any]:
    metrics = metrics_of(counts, classes)
    bins = counts.calibration_bins() if isinstance(counts, ClassificationCounts) else []
    return {
        "model": "m",
        "version": 3,
        "created_at": "2026-11-21T08:00:00Z",
        "task": metrics.task,
        "digest": "d" * 64,
        "bytes": 12345,
        "signature": {"inputs": [{"name": "numbers", "datatype": "FP32", "shape": [-1, 4]}], "outputs": []},
        "lineage": {
            "upload": {"files": [{"key": f"datasets/m/{said or 'x.csv'}"}], "count": 1},
            "dataset": {"name": "m", "version": "v"},
            "run": "m-v",
            "checkpoint": {"round": 2, "key": "runs/m-v/checkpoints/checkpoint-000002.safetensors"},
            "artifact": {"key": "runs/m-v/model.onnx", "sha256": "d" * 64},
        },
        "said": {"owner": said, "intended_use": said, "limits": "", "license": ""},
        "data": {
            "name": "m", "version": "v", "kind": "table", "samples": {"train": 5, "validation": 2, "test": 2},
            "class_counts": {"train": dict.fromkeys(classes, 1)} if classes else {}, "kept": 9, "dropped": 3,
            "duplicates": 1,
        },
        "training": {
            "settings": {"recipe": "mlp", "seed": 0}, "rounds": [{"round": 1, "loss": 1.0, "score": 0.5}],
            "best_round": 1, "reason": None, "validation_split": "validation",
        },
        "evaluation": {
            **metrics.model_dump(mode="json"), "split": "test",
            "baseline": {"always": classes[0] if classes else 1.5, "metrics": summary(metrics)},
        },
        "warnings": [said] if said else [],
        "calibration": [{"samples": count, "confidence": sure, "accuracy": hits} for count, sure, hits in bins],
        "optimization": {},
        "promotion": {"decision": "production", "reason": "it is the first version"},
    }  # fmt: skip


def classification() -> dict[str, Any]:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.45, 0.55]])
    return card(ClassificationCounts.of(probabilities, np.array([0, 1, 1, 1])), ["a", HOSTILE], HOSTILE)


def numbers() -> dict[str, Any]:
    return card(RegressionCounts.of(np.array([1.0, 2.5]), np.array([1.0, 2.0], np.float32)), [])


def labels() -> dict[str, Any]:
    return card(MultilabelCounts.of(np.array([[0.9, 0.4], [0.2, 0.8]]), np.array([[1, 1], [0, 1]])), ["a", "b"])


@pytest.mark.parametrize("made", [classification, numbers, labels])
def test_every_task_has_a_card_that_is_whole(made: Any) -> None:
    found = made()
    html, text = page(found).decode(), markdown(found)
    assert page(found).decode() == html
    assert html.startswith("<!doctype html>") and html.rstrip().endswith("</html>")
    for tag in ("section", "table", "tr", "td", "svg", "div"):
        assert len(re.findall(rf"<{tag}[ >]", html)) == html.count(f"</{tag}>"), tag
    assert "m, version 3" in text and "sha256" in html
    assert ("Confusion matrix" in html) == ("Calibration" in html) == (found["task"] == "classification")


def test_what_people_wrote_is_text() -> None:
    found = classification()
    html, text = page(found).decode(), markdown(found)
    assert "<script" not in html and "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert not re.search(r"^# heading", text, re.MULTILINE)
    rows = [line for line in text.splitlines() if line.startswith("|") and "script" in line]
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 5 for row in rows)


def test_calibration_bins_are_those_of_the_samples() -> None:
    bins = classification()["calibration"]
    assert [entry["samples"] for entry in bins] == [2, 1, 1]
    assert [entry["accuracy"] for entry in bins] == [0.5, 1.0, 1.0]
    assert [entry["confidence"] for entry in bins] == pytest.approx([0.575, 0.8, 0.9])


def test_a_card_that_isnt_there() -> None:
    with pytest.raises(NotFound, match="no card"):
        read_card(MemoryStore(), "m", 1)
