"""Instances that are there before their first request: hooks as Lambda's runtime calls them."""

from __future__ import annotations

import importlib.util

import pytest
import snapshot_restore_py

from shoal_core.aws import snapshots

RUNTIME_HOOKS = (snapshot_restore_py.get_before_snapshot, snapshot_restore_py.get_after_restore)


@pytest.fixture(autouse=True)
def no_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_restore_py, "_before_snapshot_registry", [], raising=False)
    monkeypatch.setattr(snapshot_restore_py, "_after_restore_registry", [], raising=False)


def run_hooks(hooks: list[tuple[object, tuple[object, ...], dict[str, object]]]) -> None:
    for function, arguments, options in hooks:
        function(*arguments, **options)  # type: ignore[operator]


def test_an_instance_on_demand_loads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(snapshots.INITIALIZATION, "on-demand")
    loaded: list[str] = []
    snapshots.prepare(lambda: loaded.append("models"))
    assert loaded == []
    assert [list(hooks()) for hooks in RUNTIME_HOOKS] == [[], []]


def test_a_provisioned_instance_loads_while_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(snapshots.INITIALIZATION, snapshots.PROVISIONED)
    loaded: list[str] = []
    snapshots.prepare(lambda: loaded.append("models"))
    assert loaded == ["models"]


def test_a_snapshot_is_taken_of_loaded_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(snapshots.INITIALIZATION, snapshots.SNAPSHOT)
    loaded: list[str] = []
    snapshots.prepare(lambda: loaded.append("models"))
    assert loaded == []
    before, after = (list(hooks()) for hooks in RUNTIME_HOOKS)
    run_hooks(before)
    assert loaded == ["models"]
    assert [function for function, _, _ in after] == [snapshots.forget]


def test_the_runtime_knows_the_hooks() -> None:
    assert importlib.util.find_spec("awslambdaric") is not None
    assert all(callable(hooks) for hooks in RUNTIME_HOOKS)
