"""The plots of a search, as inline SVG: trials by round, and values against what came of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from shoal_core.data.quality.charts import HEIGHT, WIDTH, figure
from shoal_core.data.quality.markup import Markup, element, join
from shoal_core.registry.tuning_records import Tuning
from shoal_core.training.tuning.halving import rounds_until
from shoal_core.training.tuning.records import Trial

_WIDE, _HIGH = 1000, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 14, 38
_MAX_LINES = 200
_MAX_VALUES = 12
_GRID = 4


class _Axes:
    """Rounds to the right, the metric upward or, where lower is better, downward: better is always up."""

    def __init__(self, rounds: int, low: float, high: float, downward: bool) -> None:
        self._rounds, self._low, self._high, self._downward = rounds, low, high, downward

    def x(self, round_: float) -> float:
        """The place of a round, from 1."""
        share = (round_ - 1) / max(1, self._rounds - 1)
        return _LEFT + share * (_WIDE - _LEFT - _RIGHT)

    def y(self, metric: float) -> float:
        """The place of a metric."""
        share = (metric - self._low) / ((self._high - self._low) or 1.0)
        share = min(1.0, max(0.0, 1 - share if self._downward else share))
        return _HIGH - _BOTTOM - share * (_HIGH - _TOP - _BOTTOM)


def metric_plot(tuning: Tuning) -> Markup | None:
    """Each trial's metric by round, and where rungs end; None before there is a round."""
    trials = [trial for trial in tuning.trials if trial.curve]
    if not trials:
        return None
    values = sorted(point.metric for trial in trials for point in trial.curve if math.isfinite(point.metric))
    if not values:
        return None
    low, high = _shown(values, not tuning.higher_is_better)
    rounds = max(trial.rounds or 1 for trial in trials)
    axes = _Axes(rounds, low, high, not tuning.higher_is_better)
    drawn = [*_grid(axes, low, high), *_rungs(tuning, trials, axes)]
    others = [trial for trial in trials if trial.number != tuning.best]
    drawn += [_line(trial, axes, "currentColor", 1.5, 0.35) for trial in others[-_MAX_LINES:]]
    drawn += [_line(trial, axes, "var(--train)", 3, 1.0) for trial in trials if trial.number == tuning.best]
    told = "; ".join(
        f"trial {trial.number}: {figure(trial.curve[-1].metric)} after {trial.curve[-1].round} rounds"
        for trial in trials[:_MAX_LINES]
    )
    return element(
        "svg", join(drawn), viewBox=f"0 0 {_WIDE} {_HIGH}", role="img", aria_label=f"{tuning.metric} by round: {told}"
    )


def _shown(values: Sequence[float], lower_is_better: bool) -> tuple[float, float]:
    """From the best value to the worst, without what diverged: three quarters of the points fill the plot."""
    if lower_is_better:
        best, worst = values[0], values[min(len(values) - 1, math.ceil(0.9 * len(values)))]
        return best, worst if worst > best else best + 1.0
    best, worst = values[-1], values[max(0, math.floor(0.1 * len(values)) - 1)]
    return worst if worst < best else best - 1.0, best


def _grid(axes: _Axes, low: float, high: float) -> list[Markup]:
    drawn = []
    for step in range(_GRID + 1):
        value = low + (high - low) * step / _GRID
        y = round(axes.y(value), 2)
        drawn.append(element("line", class_="s-axis", x1=_LEFT, x2=_WIDE - _RIGHT, y1=y, y2=y, stroke_width=0.5))
        drawn.append(element("text", figure(value), x=_LEFT - 8, y=y + 4, text_anchor="end"))
    return drawn


def _rungs(tuning: Tuning, trials: Sequence[Trial], axes: _Axes) -> list[Markup]:
    """Where the rungs of most trials end."""
    usual = Counter(trial.rounds or 1 for trial in trials).most_common(1)[0][0]
    ends = dict.fromkeys(rounds_until(usual, part) for part in tuning.parts)
    drawn = []
    for end in ends:
        x = round(axes.x(end), 2)
        drawn.append(element("line", class_="s-axis", x1=x, x2=x, y1=_TOP, y2=_HIGH - _BOTTOM, stroke_dasharray="4 4"))
        anchor = "end" if end >= usual and usual > 1 else "middle"
        drawn.append(element("text", f"round {end}", x=x, y=_HIGH - _BOTTOM + 18, text_anchor=anchor))
    return drawn


def _line(trial: Trial, axes: _Axes, colour: str, width: float, opacity: float) -> Markup:
    points = [(axes.x(point.round), axes.y(point.metric)) for point in trial.curve if math.isfinite(point.metric)]
    values = ", ".join(f"{name} {value}" for name, value in trial.values.items()) or "as dataset.yaml says"
    told = element("title", f"trial {trial.number}: {values}")
    path = " ".join(f"{x:.2f},{y:.2f}" for x, y in points)
    line = element("polyline", points=path, fill="none", stroke=colour, stroke_width=width, stroke_opacity=opacity)
    x, y = points[-1] if points else (0.0, 0.0)
    end = element("circle", cx=f"{x:.2f}", cy=f"{y:.2f}", r=width + 1, fill=colour, fill_opacity=opacity)
    return element("g", told, line, end if points else None)


def value_plots(tuning: Tuning) -> list[tuple[str, Markup]]:
    """For each field that trials vary: its values beside the metric at the end of the first rung."""
    trials = [trial for trial in tuning.trials if trial.results]
    names = dict.fromkeys(name for trial in trials for name in trial.values)
    found: list[tuple[str, Markup]] = []
    for name in names:
        points = [
            (trial.values[name], trial.results[0].metric, trial.number == tuning.best)
            for trial in trials
            if name in trial.values and math.isfinite(trial.results[0].metric)
        ]
        if len({str(value) for value, *_ in points}) > 1 and len(found) < _MAX_VALUES:
            found.append((name, _scatter(name, points, tuning)))
    return found


def _scatter(name: str, points: Sequence[tuple[object, float, bool]], tuning: Tuning) -> Markup:
    numbers = [value for value, *_ in points if isinstance(value, int | float) and not isinstance(value, bool)]
    metrics = [metric for _, metric, _ in points]
    low, high = min(metrics), max(metrics)
    span = (high - low) or 1.0
    words = list(dict.fromkeys(sorted(str(value) for value, *_ in points)))
    is_scale = len(numbers) == len(points)
    left, right = (min(numbers), max(numbers)) if is_scale else (0, max(1, len(words) - 1))
    logarithmic = is_scale and left > 0 and right / left > 20

    def place(value: object) -> float:
        if not is_scale:
            return words.index(str(value)) / max(1, len(words) - 1)
        number = float(str(value))
        if logarithmic:
            return math.log(number / left) / math.log(right / left)
        return (number - left) / ((right - left) or 1)

    drawn = []
    for value, metric, best in points:
        share = (metric - low) / span
        share = share if tuning.higher_is_better else 1 - share
        x, y = 6 + place(value) * (WIDTH - 12), HEIGHT - 5 - share * (HEIGHT - 12)
        told = element("title", f"{value}: {tuning.metric} {figure(metric)}")
        shade = "f-test" if best else "f-bar"
        drawn.append(element("circle", told, class_=shade, cx=round(x, 2), cy=round(y, 2), r=4 if best else 3))
    ends = (figure(left), figure(right)) if is_scale else (words[0], words[-1])
    axis = element("line", class_="s-axis", x1=0, x2=WIDTH, y1=HEIGHT + 0.5, y2=HEIGHT + 0.5)
    texts = (
        element("text", ends[0], x=0, y=HEIGHT + 15),
        element("text", ends[1], x=WIDTH, y=HEIGHT + 15, text_anchor="end"),
        *([element("text", "log", x=WIDTH / 2, y=HEIGHT + 15, text_anchor="middle")] if logarithmic else []),
    )
    told_ = "; ".join(f"{value}: {figure(metric)}" for value, metric, _ in points)
    return element(
        "svg", *drawn, axis, *texts, viewBox=f"0 0 {WIDTH} {HEIGHT + 18}", role="img",
        aria_label=f"{tuning.metric} by {name}: {told_}",
    )  # fmt: skip
