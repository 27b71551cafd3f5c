"""A search as one page for people, complete in itself: no scripts, nothing loaded from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from shoal_core.data.quality.charts import figure
from shoal_core.data.quality.markup import Child, Markup, element, join, verbatim
from shoal_core.data.quality.page_parts import chip, hint, table
from shoal_core.data.quality.style import CSS, POLICY
from shoal_core.registry.tuning_plot import metric_plot, value_plots
from shoal_core.registry.tuning_records import Tuning
from shoal_core.training.tuning.records import Trial

_SHADES = {"succeeded": "good", "failed": "bad", "stopped": "warn", "stopping": "warn", "running": "plain"}
_MAX_ROWS = 200


def render_tuning(tuning: Tuning) -> bytes:
    """The page of a search, as UTF-8; every text in it is escaped."""
    sections = [
        ("plot", "Trials by round", _plot(tuning)),
        ("trials", "Trials", _trials(tuning)),
        ("winner", "The winner", _winner(tuning)),
        ("values", "What was tried, and what came of it", _values(tuning)),
        ("failed", "Trials that failed", _failed(tuning)),
        ("search", "The search", _search(tuning)),
    ]
    shown = [(name, title, body) for name, title, body in sections if body is not None]
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width,initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("title", f"{tuning.tuning_id} · search"),
        verbatim(f"<style>{CSS}</style>"),
    )
    links = (element("a", title, href=f"#{name}") for name, title, _ in shown)
    bodies = (
        element("section", element("h2", title, id=f"{name}-title"), body, id=name, aria_labelledby=f"{name}-title")
        for name, title, body in shown
    )
    body = element(
        "body",
        element("header", element("div", *_header(tuning), element("nav", *links, aria_label="Sections"))),
        element("main", *bodies),
        element("footer", f"Search {tuning.tuning_id}. The same in JSON: report.json."),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n".encode()


def _header(tuning: Tuning) -> list[Markup]:
    best = tuning.best_metric
    figures: list[tuple[str, str]] = [
        (f"{tuning.trials_begun:,}", "trials"),
        ("–" if best is None else figure(best), f"best {tuning.metric}, {tuning.split}"),
        (f"{tuning.worked_seconds / 60:.1f}", "minutes of work"),
        (_dollars(tuning.cost_usd), "on AWS (estimated)"),
    ]
    if tuning.winner is not None and tuning.winner.model is not None:
        name, value = _test_metric(tuning)
        figures += [(value, f"{name}, test split")] if name else []
        figures.append((str(tuning.winner.model.version), f"version of model {tuning.winner.model.name}"))
    tiles = (element("div", element("b", value), element("span", name), class_="figure") for value, name in figures)
    chips = [chip(tuning.status, _SHADES[tuning.status])]
    chips += [chip(f"{tuning.trials_failed} failed", "bad")] if tuning.trials_failed else []
    lead = f"Search · dataset {tuning.dataset} · version {tuning.version} · {tuning.created_at} "
    told = [element("p", f"It ended since {tuning.reason}.", class_="hint")] if tuning.reason else []
    if tuning.failure is not None:
        told.append(element("p", f"{tuning.failure.reason} {tuning.failure.fix}", class_="hint"))
    return [
        element("h1", tuning.tuning_id),
        element("p", lead, join(chips), class_="lead"),
        *told,
        element("div", *tiles, class_="figures"),
    ]


def _plot(tuning: Tuning) -> Markup | None:
    drawn = metric_plot(tuning)
    if drawn is None:
        return None
    better = "higher" if tuning.higher_is_better else "lower"
    note = (
        f"The {tuning.metric} on the {tuning.split} split: {better} is better. Each line is a trial, the strong one "
        "the best; the dashed lines are the ends of the rungs of most trials. A line that ends there wasn't promoted."
    )
    return join([hint(note), element("div", drawn, class_="scroll")])


def _trials(tuning: Tuning) -> Markup | None:
    if not tuning.trials:
        return None
    names = list(dict.fromkeys(name for trial in tuning.trials for name in trial.values if name != "recipe"))
    ranked = sorted(tuning.trials, key=_rank, reverse=True)
    rows: list[Sequence[Child]] = [
        (
            f"{trial.number}",
            _state(trial, tuning),
            "" if not trial.results else figure(trial.results[-1].metric),
            "" if not trial.curve else f"{trial.curve[-1].round} / {trial.rounds}",
            _dollars(trial.cost_usd),
            f"{trial.seconds:.1f}",
            trial.recipe or str(trial.values.get("recipe", "")),
            *(_value(trial.values[name]) if name in trial.values else "" for name in names),
        )
        for trial in ranked[:_MAX_ROWS]
    ]
    numbers = (tuning.metric, "Rounds", "Cost", "Seconds")
    columns = ("Trial", "", *numbers, "Recipe", *(name.removeprefix("training.") for name in names))
    told = (
        f"Ranked by the best {tuning.metric} of a trial's rounds so far, on the {tuning.split} split. "
        "No trial has seen the test split; the winner alone is evaluated on it."
    )
    more = hint(f"And {len(ranked) - _MAX_ROWS} more in report.json.") if len(ranked) > _MAX_ROWS else None
    return join([hint(told), table("Trials, the best first", columns, rows, numbers), more])


def _rank(trial: Trial) -> tuple[bool, tuple[float, float], int]:
    last = trial.results[-1].score if trial.results else (float("-inf"), 0.0)
    return trial.state != "failed", last, -trial.number


def _state(trial: Trial, tuning: Tuning) -> Markup:
    if tuning.winner is not None and trial.number == tuning.winner.trial:
        return chip("winner", "good")
    if trial.state == "failed":
        return chip("failed", "bad")
    if trial.state == "running":
        return chip("running", "plain")
    return chip("all rounds" if trial.state == "finished" else "paused", "plain")


def _winner(tuning: Tuning) -> Markup | None:
    winner = tuning.winner
    if winner is None:
        return None
    trial = tuning.trials[winner.trial]
    rows: list[Sequence[Child]] = [
        ("trial", f"{winner.trial}"),
        ("run", winner.run_id),
        *((name, element("code", _value(value))) for name, value in trial.values.items()),
    ]
    if winner.model is not None:
        rows.append(("model", f"{winner.model.name}, version {winner.model.version}"))
    rows += [
        (f"{name}, test split", figure(value))
        for name, value in winner.metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ][:8]
    told = {
        "succeeded": "Its rounds were trained to their end; then it was optimised, evaluated and registered.",
        "failed": "Its run failed.",
    }.get(winner.status, "Its run goes on: its last rounds, optimisation and evaluation.")
    note = "" if trial.values else " It changes nothing of what dataset.yaml asks for."
    return join([hint(told + note), table("The winner", ("", ""), rows)])


def _values(tuning: Tuning) -> Markup | None:
    plots = value_plots(tuning)
    if not plots:
        return None
    cards = (element("div", element("h3", name), drawn, class_="card") for name, drawn in plots)
    note = (
        f"Each point is a trial: to the right what it tried, upward its {tuning.metric} at the end of its first rung, "
        "where all of them trained for about the same time."
    )
    return join([hint(note), element("div", *cards, class_="cards")])


def _failed(tuning: Tuning) -> Markup | None:
    rows: list[Sequence[Child]] = [
        (f"{trial.number}", trial.failure.stage, trial.failure.error, trial.failure.reason, trial.failure.fix)
        for trial in tuning.trials
        if trial.failure is not None
    ]
    columns = ("Trial", "Where", "Error", "Reason", "What to do")
    return table("Each with its reason", columns, rows[:_MAX_ROWS]) if rows else None


def _search(tuning: Tuning) -> Markup:
    limits = tuning.budget
    budget = [f"{limits.most_trials} trials"]
    budget += [f"{limits.minutes:g} minutes"] if limits.minutes is not None else []
    budget += [f"${limits.dollars:g}"] if limits.dollars is not None else []
    parts = ", ".join(
        f"{reached} of {entered} to 1/{part} of their rounds" if part > 1 else f"{reached} of {entered} to the end"
        for reached, entered, part in zip(tuning.done, tuning.rungs, tuning.parts, strict=True)
    )
    rows: list[Sequence[Child]] = [
        ("budget", ", ".join(budget)),
        ("rungs", f"{parts}; one of {tuning.eta} is promoted"),
        ("lanes", str(tuning.lanes)),
        ("seed", str(tuning.seed)),
        ("billed", f"{tuning.gb_seconds:,.1f} GB-seconds"),
    ]
    space: list[Sequence[Child]] = [
        (name, element("code", _value(drawn))) for name, drawn in tuning.space.items() if name != "recipes"
    ]
    for recipe, own in tuning.space.get("recipes", {}).items():
        text = "; ".join(f"{name}: {_value(drawn)}" for name, drawn in own.items())
        space.append((f"recipe {recipe}", element("code", text) if text else ""))
    return join(
        [table("How it searched", ("", ""), rows), table("What trials are drawn from", ("Field", "Drawn from"), space)]
    )


def _test_metric(tuning: Tuning) -> tuple[str, str]:
    metrics = tuning.winner.metrics if tuning.winner is not None else {}
    value = metrics.get(tuning.metric)
    return (tuning.metric, figure(value)) if isinstance(value, int | float) else ("", "")


def _value(value: Any) -> str:  # noqa: ANN401 - a value of dataset.yaml
    if isinstance(value, float):
        return figure(value)
    return value if isinstance(value, str) else json.dumps(value, separators=(", ", ": "))


def _dollars(value: float) -> str:
    return f"${value:.2f}" if value >= 0.01 else f"${value:.5f}".rstrip("0").rstrip(".")
