"""Answers as columns of a table: their names, which never hide a column of the input, and their cells."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from shoal_core.data.config_types import Task
from shoal_core.data.spec import TargetSpec
from shoal_core.serving.batches.answering import Answer
from shoal_core.serving.batches.tally import RecordError

Cell = str | float | None
_MAIN: Mapping[Task, tuple[str, ...]] = {
    "classification": ("label", "probability"),
    "multilabel": ("labels",),
    "regression": ("value",),
    "anomaly": ("score", "anomalous"),
}
ERROR_COLUMNS = ("error", "error_reason", "error_fix")


class AnswerColumns:
    """The columns that a job adds to a table.

    `label` and `probability` (classification), `labels` (multilabel), `value` (regression) or `score` and `anomalous`
    (anomaly: true or false); `probability_CLASS` of every class when asked for; `error`, `error_reason` and
    `error_fix`. A name that the table has already (DuckDB doesn't tell capital letters from small ones) gets
    `predicted_` before it. A vector is JSON in one cell.

    Args:
        target: What the model predicts.
        probabilities: Whether to add those of all classes.
        taken: The table's own columns.
        vectors: Whether a value is several numbers.
    """

    def __init__(self, target: TargetSpec, probabilities: bool, taken: Iterable[str], vectors: bool = False) -> None:
        self._target = target
        main = _MAIN[target.task]
        self._classes = target.classes if probabilities and target.task in ("classification", "multilabel") else ()
        self._main = main
        self._separator = target.separator or ";"
        used = set(map(str.casefold, taken))
        names: list[str] = []
        for name in (*main, *(f"probability_{label}" for label in self._classes), *ERROR_COLUMNS):
            while name.casefold() in used:
                name = f"predicted_{name}"
            used.add(name.casefold())
            names.append(name)
        self.names: Sequence[str] = tuple(names)
        wanted = (*main, *(["probability"] * len(self._classes)), *ERROR_COLUMNS)
        told = [("text" if vectors and name == "value" else name) for name in wanted]
        self.texts = frozenset(
            name for name, of in zip(names, told, strict=True) if of in ("text", "label", "labels", *ERROR_COLUMNS)
        )
        self.flags = frozenset(name for name, of in zip(names, told, strict=True) if of == "anomalous")
        self._no_answer: list[Cell] = [None] * (len(main) + len(self._classes))

    def cells(self, outcome: Answer | RecordError) -> list[Cell]:
        """One row of these columns."""
        if isinstance(outcome, RecordError):
            return [*self._no_answer, outcome.code, outcome.reason, outcome.fix]
        found = [outcome[name] for name in self._main]
        cells: list[Cell] = [json.dumps(cell) if isinstance(cell, list) else cell for cell in found]
        if self._target.task == "anomaly":
            cells = [outcome["score"], "true" if outcome["anomalous"] else "false"]
        if self._target.task == "multilabel":
            cells = [self._separator.join(outcome["labels"])]
        if self._classes:
            cells += outcome["probabilities"].values()
        return [*cells, None, None, None]
