"""What people read of anomalies: an answer, a stream's line, progress, and a run's one metric."""

import pytest

import shoal
from shoal._runs import Run
from shoal.cli.model import _answer, _plain
from shoal.cli.output import headline
from shoal.cli.stream import _prediction
from shoal.progress import facts


@pytest.mark.parametrize(
    ("anomalous", "score", "told"), [(True, 1.5, "anomalous, score 1.5000"), (False, None, "normal")]
)
def test_an_answer_says_which_it_is_and_by_how_much(anomalous, score, told):
    prediction = shoal.Prediction(score=score, anomalous=anomalous)
    assert _answer(prediction) == told
    assert _plain(prediction)["anomalous"] is anomalous
    assert _prediction({"score": 0.5, "anomalous": anomalous}) == f"{told.partition(',')[0]} 0.5"


@pytest.mark.parametrize(
    ("label", "probability", "told"),
    [("a", 0.25, "a 25.0%"), ("a", None, "a"), (None, None, "(none)"), (None, 0.5, "(none) 50.0%")],
)
def test_an_answer_without_a_label_or_a_probability_is_shown(label, probability, told):
    assert _prediction({"label": label, "probability": probability}) == told


def test_progress_tells_loss_and_area_where_nothing_can_be_right():
    validation = {"loss": 0.25, "threshold": 0.6, "roc_auc": 0.9, "pr_auc": 0.8}
    run = Run(None, {"run_id": "r", "progress": {"round": 1, "rounds": 2, "validation": validation}})
    assert facts(run) == ["round 1/2", "validation loss 0.2500", "validation roc_auc 0.9000"]


@pytest.mark.parametrize(
    ("metrics", "told"),
    [({"loss": 0.2, "roc_auc": 0.9}, "roc_auc 0.9000"), ({"loss": 0.2, "roc_auc": None}, "loss 0.2000")],
)
def test_one_metric_stands_for_a_model_of_anomalies(metrics, told):
    assert headline(metrics) == told
