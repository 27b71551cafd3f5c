"""What of Amazon States Language the embedded cloud's interpreter, which is moto's, wouldn't do as AWS does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from shoal.local.deploy.sdk_tasks import sdk_problems
from shoal.local.intrinsics import BadTemplate

# Fields that moto reads and doesn't act on, or doesn't know.
_NOT_HONOURED = {
    "ItemBatcher": "items aren't batched",
    "ResultWriter": "no results are written",
    "ToleratedFailureCount": "a failed item never fails the Map",
    "ToleratedFailureCountPath": "a failed item never fails the Map",
    "ToleratedFailurePercentage": "a failed item never fails the Map",
    "ToleratedFailurePercentagePath": "a failed item never fails the Map",
    "Assign": "variables aren't kept",
}


def all_states(definition: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every state and its name, those of Maps and of Parallel's branches included."""
    for name, state in definition.get("States", {}).items():
        yield name, state
        for part in (state.get("ItemProcessor"), state.get("Iterator"), *state.get("Branches", ())):
            yield from all_states(part or {})


def has_distributed_map(definition: Mapping[str, Any]) -> bool:
    """Whether a state of the definition starts children of its own."""
    return any(_mode(state) == "DISTRIBUTED" for _, state in all_states(definition))


def _mode(state: Mapping[str, Any]) -> str:
    return str(state.get("ItemProcessor", {}).get("ProcessorConfig", {}).get("Mode", "INLINE"))


def check_definition(definition: Mapping[str, Any], logical_id: str) -> None:
    """Refuse what would behave differently here. Raises `BadTemplate` that lists everything found."""
    problems = tuple(_problems(definition))
    if problems:
        raise BadTemplate(
            f"The embedded cloud doesn't honour all of {logical_id}'s definition: {'; '.join(problems)}.",
            "Leave these out; docs/local-cloud.md says what its interpreter does.",
            problems,
        )


def _problems(definition: Mapping[str, Any]) -> Iterator[str]:
    if definition.get("QueryLanguage", "JSONPath") != "JSONPath":
        yield "QueryLanguage: only JSONPath is evaluated"
    for name, state in all_states(definition):
        yield from (f"{name}: {field}: {why}" for field, why in _NOT_HONOURED.items() if field in state)
        if state.get("QueryLanguage", "JSONPath") != "JSONPath":
            yield f"{name}: QueryLanguage: only JSONPath is evaluated"
        yield from sdk_problems(name, state)
        if _mode(state) == "DISTRIBUTED":
            yield from _distributed_problems(name, state)


def _distributed_problems(name: str, state: Mapping[str, Any]) -> Iterator[str]:
    reader = state.get("ItemReader", {})
    kind = reader.get("ReaderConfig", {}).get("InputType", "JSON")
    if kind not in ("JSON", "CSV"):
        yield f"{name}: ItemReader: {kind} isn't read"
    if not any("Catch" in child for _, child in all_states(state["ItemProcessor"])):
        # moto's Map succeeds whatever its children do, so the failure must be kept where a later state finds it.
        yield f"{name}: no state of its ItemProcessor catches and records a failure, which is lost here"
