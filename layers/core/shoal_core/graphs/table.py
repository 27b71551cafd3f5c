"""The tables of operators in docs/operators.md.

`python -m shoal_core.graphs.table` prints them; with a file's name it replaces what stands between the file's two
marks. What is said to be verified is what tests/unit/graphs and tests/torch enforce for every rule.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from shoal_core.errors import BadInput
from shoal_core.graphs.rules.registry import FAMILIES, WITHOUT_GRADIENT

BEGIN = "<!-- begin: python -m shoal_core.graphs.table docs/operators.md -->"
END = "<!-- end -->"

_EVERYWHERE = "finite differences, PyTorch"
_NO_TRAINED_INDICES = "no gradient by indices"
_RECURRENT = (
    "default activations; no sequence lengths and no clip; layout 0 (time first); forward, reverse and bidirectional"
)

RESTRICTIONS: dict[str, str] = {
    "AveragePool": "fixed spatial sizes; one to three of them, pads, `ceil_mode` and dilations as well",
    "BatchNormalization": "trained where both statistics are buffers (running variance unbiased, as PyTorch's), else "
    "frozen: no gradient by the statistics; `training_mode` is refused",
    "CastLike": "no gradient by the type's example",
    "Clip": "no gradient by the bounds",
    "Conv": "fixed spatial sizes; one to three of them, groups, strides, dilations, pads and `auto_pad` as well",
    "CumSum": "no gradient by the axis",
    "Dropout": "without training mode only, where it does nothing",
    "Einsum": "explicit or implicit; no ellipsis, no repeated label in an operand, no broadcast along a label",
    "Expand": "no gradient by the shape",
    "GRU": f"{_RECURRENT}; `linear_before_reset` 0 and 1",
    "Gather": f"any axis; {_NO_TRAINED_INDICES}",
    "GatherElements": f"any axis; {_NO_TRAINED_INDICES}",
    "GatherND": f"any `batch_dims`; {_NO_TRAINED_INDICES}",
    "Gelu": "exact and `tanh`",
    "GlobalMaxPool": "equal maxima share the gradient",
    "GroupNormalization": "a scale for each channel (operator set 21), not for each group (18)",
    "LSTM": f"{_RECURRENT}; no peepholes; input and forget gates apart",
    "Max": "equal operands share the gradient",
    "MaxPool": "fixed spatial sizes; row-major indices (`storage_order` 0)",
    "Min": "equal operands share the gradient",
    "Pad": "constant mode; no gradient by the pads and the value",
    "Pow": "the gradient by the exponent counts a base of 0 or less as 1",
    "RNN": f"{_RECURRENT}",
    "ReduceL1": "constant axes",
    "ReduceL2": "constant axes; not where the norm is 0",
    "ReduceLogSum": "constant axes",
    "ReduceLogSumExp": "constant axes",
    "ReduceMax": "constant axes; equal maxima share the gradient",
    "ReduceMean": "constant axes",
    "ReduceMin": "constant axes; equal minima share the gradient",
    "ReduceProd": "constant axes; not where an element is 0",
    "ReduceSum": "constant axes",
    "ReduceSumSquare": "constant axes",
    "Resize": "mode `nearest`",
    "ScatterElements": f"reductions `none` (indices without repeats) and `add`; {_NO_TRAINED_INDICES}",
    "ScatterND": f"reductions `none` (indices without repeats) and `add`; {_NO_TRAINED_INDICES}",
    "Tile": "constant repeats; at most one size unknown",
    "TopK": "values only; no gradient by the count",
    "Where": "no gradient by the condition",
}

_VERIFIED = {
    "GRU": "finite differences, PyTorch's module (`linear_before_reset` 1), PyTorch's autograd on the formulas (0)",
}


def render() -> str:
    """Markdown: a table for every family of operators, and the list of those without a gradient."""
    parts = []
    for family, rules in FAMILIES.items():
        lines = [f"### {family}", "", "| operator | restrictions | verified by |", "|---|---|---|"]
        lines += [
            f"| `{operator}` | {RESTRICTIONS.get(operator, '')} | {_VERIFIED.get(operator, _EVERYWHERE)} |"
            for operator in sorted(rules)
        ]
        parts.append("\n".join(lines))
    names = ", ".join(f"`{operator}`" for operator in sorted(WITHOUT_GRADIENT))
    parts.append(f"### Allowed, with no gradient\n\nPiecewise constant, or not about values: {names}.")
    return "\n\n".join(parts) + "\n"


def replace(document: str, name: str = "The document") -> str:
    """A document with fresh tables between its marks. Raises `BadInput` when it lacks one of them."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise BadInput(f"{name} lacks the marks of the tables.", f"Add the lines {BEGIN!r} and {END!r}.")
    return f"{before}{BEGIN}\n\n{render()}\n{END}{after}"


def main(arguments: Sequence[str]) -> int:
    """Print the tables, or put them into the file that is named."""
    if not arguments:
        sys.stdout.write(render())
        return 0
    path = Path(arguments[0])
    path.write_text(replace(path.read_text(encoding="utf-8"), str(path)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
