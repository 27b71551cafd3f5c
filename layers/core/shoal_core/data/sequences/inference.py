"""What windows of a table hold: which columns are inputs, and what is predicted."""

from __future__ import annotations

from shoal_core.data.cleaning_config import ColumnConfig, SequenceConfig
from shoal_core.data.config import DatasetConfig
from shoal_core.data.spec import NumberColumn, PreprocessingSpec, SequenceInput, TargetSpec
from shoal_core.data.tables.inference import (
    InferredTable,
    Inputs,
    Role,
    add_category,
    choose_goal,
    reason_to_drop,
    report_column,
    text_column,
)
from shoal_core.data.tables.profiling import ColumnProfile, TableProfile
from shoal_core.errors import BadConfig, BadDataset

_NUMBERS = ("number", "boolean")


def infer_sequence(profile: TableProfile, name: str, config: DatasetConfig) -> InferredTable:
    """Choose the target, the task and the inputs of windows.

    Inputs are the columns of numbers, booleans and categories. The past of the target is one of them when the target
    lies ahead of the window (`horizon` above 0).

    Args:
        profile: The whole table's profile.
        name: The table's name, for errors.
        config: What was asked for; `sequence` is set.

    Raises:
        BadDataset: No rows, no such target, or no inputs.
        BadConfig: A column that isn't there, or settings that windows don't allow.
    """
    form = config.sequence or SequenceConfig(time="")
    if not profile.rows:
        raise BadDataset(f"{name!r} has no rows that can be read.", "Add rows under the header, and close its quotes.")
    _check_settings(profile, name, config, form)
    others = tuple(column for column in profile.columns if column not in (form.time, form.id))
    if not others:
        raise BadDataset(f"{name!r} has no column besides time and id.", "Add columns of numbers or categories.")
    target, found = choose_goal(profile, others, name, config)
    if found.task == "multilabel":
        raise BadConfig("dataset.yaml: task: windows can't have several labels.", "Use classification or regression.")
    if found.task == "anomaly" and form.horizon:
        raise BadConfig(
            "dataset.yaml: sequence.horizon: anomalies are found in the window itself.", "Leave `horizon` out."
        )
    return _choose(profile, name, config, form, target, found)


def _choose(
    profile: TableProfile,
    name: str,
    config: DatasetConfig,
    form: SequenceConfig,
    target: ColumnProfile | None,
    goal: TargetSpec,
) -> InferredTable:
    inputs = Inputs()
    for column in profile.columns.values():
        settings = config.columns.get(column.name, ColumnConfig())
        if column is target:
            if form.horizon and goal.task == "regression":
                inputs.numbers.append(NumberColumn(name=column.name))
            elif form.horizon:
                add_category(inputs, column, profile.rows, settings)
                inputs.reports.pop()
            inputs.reports.append(report_column(column, profile.rows, "target"))
        elif column.name in (form.time, form.id):
            role: Role = "time" if column.name == form.time else "group"
            inputs.reports.append(report_column(column, profile.rows, role))
        elif reason := _reason(column, settings):
            inputs.ignored.append(column.name)
            inputs.reports.append(report_column(column, profile.rows, "dropped", reason))
        elif (settings.type or column.type) == "category" or settings.buckets:
            add_category(inputs, column, profile.rows, settings)
        else:
            inputs.numbers.append(NumberColumn(name=column.name))
            inputs.reports.append(report_column(column, profile.rows, "number"))
    if not inputs.numbers and not inputs.categories:
        raise BadDataset(
            f"{name!r} has no column of numbers or categories to look back on.",
            "Add one, or set `sequence.horizon` above 0, so that the target's own past is an input.",
        )
    return _inferred(inputs, config, form, goal)


def _inferred(inputs: Inputs, config: DatasetConfig, form: SequenceConfig, goal: TargetSpec) -> InferredTable:
    found = SequenceInput(
        time=form.time,
        id=form.id,
        window=form.window,
        stride=form.stride,
        horizon=form.horizon,
        numbers=tuple(inputs.numbers),
        categories=tuple(inputs.categories),
        ignored=tuple(inputs.ignored),
    )
    inferred = [*(["target"] if config.target is None else []), *(["task"] if config.task is None else [])]
    spec = PreprocessingSpec(kind="sequence", sequence=found, target=goal)
    return InferredTable(
        spec=spec, columns=tuple(inputs.reports), inferred=tuple(inferred), warnings=tuple(inputs.warnings)
    )


def _reason(column: ColumnProfile, settings: ColumnConfig) -> str:
    """Why a column is no input, '' when it is one."""
    if settings.type == "ignore":
        return "dataset.yaml says so"
    reason = reason_to_drop(column, settings.type)
    if reason:
        return reason
    kind = settings.type or column.type
    if kind == "category" or settings.buckets:
        is_text = settings.type is None and text_column(column, asked=False) is not None
        return "windows are made of numbers and categories, and it is of type text" if is_text else ""
    if kind not in _NUMBERS:
        return f"windows are made of numbers and categories, and it is of type {kind}"
    return "" if column.type in _NUMBERS else f"its values are of type {column.type}"


def _check_settings(profile: TableProfile, name: str, config: DatasetConfig, form: SequenceConfig) -> None:
    wanted = [("sequence.time", form.time), ("sequence.id", form.id)]
    wanted += [("columns", column) for column in config.columns]
    for setting, column in wanted:
        if column is not None and column not in profile.columns:
            shown = ", ".join(repr(known) for known in list(profile.columns)[:50])
            raise BadConfig(
                f"dataset.yaml: {setting}: {name!r} has no column {column!r}.", f"Use one of its columns: {shown}."
            )
    if form.id == form.time:
        raise BadConfig("dataset.yaml: sequence: time and id are one column.", "Name two columns, or leave out `id`.")
    if config.target in (form.time, form.id) and config.target is not None:
        raise BadConfig(
            f"dataset.yaml: target: {config.target!r} is the time or the id of the sequence.", "Name another column."
        )
    if config.split.group is not None and config.split.group != form.id:
        raise BadConfig("dataset.yaml: split.group: windows can be grouped by their id only.", "Use `sequence.id`.")
    if config.split.time is not None and config.split.time != form.time:
        raise BadConfig("dataset.yaml: split.time: windows can be split by their time only.", "Use `sequence.time`.")
