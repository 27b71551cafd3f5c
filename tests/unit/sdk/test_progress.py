import io

import pytest
from rich.console import Console

from shoal._runs import Run
from shoal.progress import JsonProgress, LiveProgress, PlainProgress, dollars_text, seconds_text, show


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0.0 s"), (8.44, "8.4 s"), (185, "3 min 05 s"), (7620, "2 h 07 min")]
)
def test_durations(seconds, text):
    assert seconds_text(seconds) == text


@pytest.mark.parametrize(
    ("dollars", "text"),
    [(0, "$0.00"), (1.5, "$1.50"), (0.000123, "$0.00012"), (0.0099, "$0.0099"), (2e-7, "$0.0000002")],
)
def test_amounts(dollars, text):
    assert dollars_text(dollars) == text


def run(**fields):
    progress = {
        "shards_done": 1,
        "shards_total": 2,
        "round": 1,
        "rounds": 4,
        "loss": 0.5,
        "validation": {"accuracy": 0.9},
    }
    document = {"run_id": "r", "dataset": "digits", "status": "running", "stage": "Train Shard", "progress": progress}
    return Run(None, document | {"seconds": 3.0, "cost_usd": 0.001} | fields)  # type: ignore[arg-type]


def test_the_way_to_show_suits_the_output():
    assert isinstance(show(Console(file=io.StringIO())), PlainProgress)
    assert isinstance(show(Console(file=io.StringIO(), force_terminal=True)), LiveProgress)
    assert isinstance(show(Console(file=io.StringIO()), as_json=True), JsonProgress)


def test_plain_lines_are_one_per_change():
    lines = []
    view = PlainProgress(lines.append)
    for shown in (run(), run(seconds=4.0, cost_usd=0.002), run(stage="Merge Round"), run(status="succeeded")):
        view.update(shown)
    assert [line.split()[2] for line in lines] == ["Train", "Merge", "succeeded"]


def drawn(view):
    console = Console(file=io.StringIO(), width=100)
    console.print(view)
    return console.file.getvalue()


def test_the_live_view_ticks_what_is_done():
    view = LiveProgress(Console(file=io.StringIO(), force_terminal=True))
    assert "waiting" in drawn(view)
    view.update(run(stages=[{"name": "Plan Shards", "seconds": 0.3}]))
    text = drawn(view)
    assert "✓  Plan Shards" in text and "0.3 s" in text
    assert "·  Register Model" in text
    assert "round 1/4  loss 0.5000  validation accuracy 0.9000" in text
    assert "cost so far $0.001" in text
    view.update(run(status="failed", failure={"stage": "train_shard"}))
    assert "✗  Train Shard" in drawn(view)
    view.update(run(status="succeeded", stage="Register Model"))
    assert drawn(view).count("✓") == 11


def test_the_live_view_of_a_run_by_request_begins_with_training():
    view = LiveProgress(Console(file=io.StringIO(), force_terminal=True))
    view.update(run(request={"overrides": {}}))
    assert "Start Training" in drawn(view) and "Plan Shards" not in drawn(view)
    view.update(run(request=None))
    assert "Plan Shards" in drawn(view)


def test_time_left_needs_a_round_to_measure():
    view = LiveProgress(Console(file=io.StringIO(), force_terminal=True))
    view.update(run())
    assert view.seconds_left() is None
    view.update(run(progress={"round": 2, "rounds": 4}))
    left = view.seconds_left()
    assert left is not None and left >= 0
    view.update(run(status="succeeded"))
    assert view.seconds_left() is None


def test_the_live_view_starts_and_stops():
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with show(console) as view:
        view.update(run(status="succeeded", stage="Register Model"))
    assert "succeeded" in console.file.getvalue()
