"""What windows of a table hold: which columns are inputs, and what is predicted."""

from __future__ import annotations

from shoal_core.data.cleaning_config import ColumnConfig, SequenceConfig
from shoal_core.data.config import DatasetConfig
from shoal_core.data.report import ColumnReport
from shoal_core.data.spec import NumberColumn, PreprocessingSpec, SequenceInput, TargetSpec
from shoal_core.data.tables.goals import choose_target, choose_target_spec
from shoal_core.data.tables.inference import InferredTable, reason_to_drop, report_column
from shoal_core.data.tables.profiling import ColumnProfile, TableProfile
from shoal_core.errors import BadConfig, BadDataset

_NUMBERS = ("number", "boolean")


def infer_sequence(profile: TableProfile, name: str, config: DatasetConfig) -> InferredTable:
    """Choose the target, the task and the inputs of windows.

    Inputs are the columns of numbers and booleans. The past of a target of numbers is one of them when the target lies
    ahead of the window (`horizon` above 0).

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
        raise BadDataset(f"{name!r} has no column besides time and id.", "Add columns of numbers.")
    target = profile.columns[choose_target(others, name, config.target)]
    found = choose_target_spec(target, name, config)
    if found.task == "multilabel":
        raise BadConfig("dataset.yaml: task: windows can't have several labels.", "Use classification or regression.")
    return _choose(profile, name, config, form, target, found)


def _choose(
    profile: TableProfile,
    name: str,
    config: DatasetConfig,
    form: SequenceConfig,
    target: ColumnProfile,
    goal: TargetSpec,
) -> InferredTable:
    numbers: list[str] = []
    ignored: list[str] = []
    reports: list[ColumnReport] = []
    for column in profile.columns.values():
        if column is target:
            if form.horizon and goal.task == "regression":
                numbers.append(column.name)
            reports.append(report_column(column, profile.rows, "target"))
        elif column.name in (form.time, form.id):
            reports.append(report_column(column, profile.rows, "time" if column.name == form.time else "group"))
        elif reason := _reason(column, config.columns.get(column.name, ColumnConfig())):
            ignored.append(column.name)
            reports.append(report_column(column, profile.rows, "dropped", reason))
        else:
            numbers.append(column.name)
            reports.append(report_column(column, profile.rows, "number"))
    if not numbers:
        raise BadDataset(
            f"{name!r} has no column of numbers to look back on.",
            "Add one, or set `sequence.horizon` above 0, so that the target's own past is an input.",
        )
    inputs = SequenceInput(
        time=form.time,
        id=form.id,
        window=form.window,
        stride=form.stride,
        horizon=form.horizon,
        numbers=tuple(NumberColumn(name=column) for column in numbers),
        ignored=tuple(ignored),
    )
    inferred = [*(["target"] if config.target is None else []), *(["task"] if config.task is None else [])]
    spec = PreprocessingSpec(kind="sequence", sequence=inputs, target=goal)
    return InferredTable(spec=spec, columns=tuple(reports), inferred=tuple(inferred), warnings=())


def _reason(column: ColumnProfile, settings: ColumnConfig) -> str:
    """Why a column is no input, '' when it is one."""
    if settings.type == "ignore":
        return "dataset.yaml says so"
    reason = reason_to_drop(column, settings.type)
    if reason:
        return reason
    kind = settings.type or column.type
    if kind not in _NUMBERS:
        return f"windows are made of numbers, and it is of type {kind}"
    if column.type not in _NUMBERS:
        return f"its values are of type {column.type}"
    return ""


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
