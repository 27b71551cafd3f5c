"""Expectations that can't be checked are refused with the plan, before any work is done."""

from __future__ import annotations

import difflib

from shoal_core.data.plan import Plan
from shoal_core.errors import BadConfig

_SHOWN = 20


def check_expected(plan: Plan) -> None:
    """Refuse an expectation of a column that isn't there, or of classes where there are none.

    Raises:
        BadConfig: The expectation is named by its number in `expect`, with the nearest column that exists.
    """
    spec = plan.spec
    columns = [column.name for column in plan.columns]
    columns += [name for name in (spec.table.names if spec.table else ()) if name not in columns]
    if spec.kind == "image":
        columns = []
    for number, expectation in enumerate(plan.config.expect, 1):
        if expectation.column is not None and expectation.column not in columns:
            near = difflib.get_close_matches(expectation.column, columns, n=1, cutoff=0.6)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            known = ", ".join(repr(name) for name in columns[:_SHOWN])
            more = f" and {len(columns) - _SHOWN} more" if len(columns) > _SHOWN else ""
            raise BadConfig(
                f"dataset.yaml: expectation {number} is of a column {expectation.column!r}, "
                f"which {plan.source_name!r} doesn't have.",
                f"{hint}Its columns: {known}{more}." if columns else "Images have no columns: expect min_per_class.",
            )
        if expectation.min_per_class is not None and not spec.target.classes:
            raise BadConfig(
                f"dataset.yaml: expectation {number} is of classes, and this dataset has none.",
                "Expect min_samples, or something of the target column.",
            )
