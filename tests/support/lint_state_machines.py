"""Check every state machine: statelint for the language, and what Shoal asks of each state beyond it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from statelint.linter import Linter

ROOT = Path(__file__).resolve().parents[2]


def problems(definition: dict[str, Any]) -> list[str]:
    """All problems of a definition, in words."""
    return [*_language(definition), *_house_rules(definition)]


def _language(definition: dict[str, Any]) -> list[str]:
    # Substitutions such as ${PlanShardsFunctionArn} become ARNs, as they do in a deployment.
    text = json.dumps(definition).replace("${Partition}", "aws")
    text = re.sub(r"\$\{(\w+?)FunctionArn\}", r"arn:aws:lambda:us-east-1:123456789012:function:\1", text)
    known = json.loads(text)
    for _, state in states(known):
        # statelint knows ItemReader, but not the field that AWS requires in it.
        state.get("ItemReader", {}).get("ReaderConfig", {}).pop("InputType", None)
    return [str(problem) for problem in Linter.validate(known)]


def states(definition: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """All states, those of Maps included."""
    for name, state in definition["States"].items():
        yield name, state
        if "ItemProcessor" in state:
            yield from states(state["ItemProcessor"])


def _house_rules(definition: dict[str, Any]) -> list[str]:
    found = []
    handlers = {"Record Failure", "Publish Run Failed", "Publish Batch Failed", "Publish Tuning Failed"}
    for name, state in states(definition):
        if state["Type"] == "Task":
            if "TimeoutSeconds" not in state:
                found.append(f"{name}: a task needs TimeoutSeconds")
            if not all("JitterStrategy" in rule for rule in state.get("Retry", [])) or not state.get("Retry"):
                found.append(f"{name}: a task needs Retry with JitterStrategy")
        if state.get("ItemProcessor", {}).get("ProcessorConfig", {}).get("Mode") == "DISTRIBUTED":
            found += [f"{name}: {problem}" for problem in _distributed(state)]
    for name, state in definition["States"].items():
        if state["Type"] in ("Task", "Map") and name not in handlers and "Catch" not in state:
            found.append(f"{name}: a failure must be caught and recorded")
    return found


def _distributed(state: dict[str, Any]) -> Iterator[str]:
    """AWS tells only that an item failed, moto nothing at all: the item's own failure must be caught and recorded."""
    if state.get("ItemReader", {}).get("ReaderConfig") != {"InputType": "JSON"}:
        yield "a Distributed Map reads its items from S3, as JSON"
    if state.get("Catch", [{}])[0].get("Next") != state.get("Next"):
        yield "the state after a Distributed Map must look for failed items, whatever became of the Map"
    for name, child in state["ItemProcessor"]["States"].items():
        if child["Type"] == "Task" and child["Resource"].startswith("${"):
            if "Catch" not in child:
                yield f"{name}: an item's failure must be caught and recorded"
            if child.get("End") and "ResultSelector" not in child:
                yield f"{name}: an item's result must be small, as the Map's output holds all of them"


def main() -> int:
    """Lint all of statemachines/; 1 when there is a problem."""
    status = 0
    for path in sorted((ROOT / "statemachines").glob("*.asl.yaml")):
        for problem in problems(yaml.safe_load(path.read_text())):
            status = 1
            sys.stdout.write(f"{path.relative_to(ROOT)}: {problem}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
