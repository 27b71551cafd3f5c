"""The tables of operators in docs/operators.md.

`python -m shoal_core.graphs.table` prints them; with a file's name it replaces what stands between the file's two
marks. What is said to be verified is what tests/unit/graphs and tests/torch enforce for every rule.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from shoal_core.errors import BadInput
from shoal_core.graphs.rules.registry import FAMILIES, REFUSED, WITHOUT_GRADIENT

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
    "Compress": "no gradient by the condition",
    "Conv": "fixed spatial sizes; one to three of them, groups, strides, dilations, pads and `auto_pad` as well",
    "ConvTranspose": "fixed spatial sizes; one to three of them, groups, strides, dilations, `auto_pad`, "
    "`output_shape` and `output_padding` below the stride as well",
    "CumSum": "no gradient by the axis",
    "Dropout": "without training mode, where it does nothing; trained as an input's noise has it "
    "([networks](networks.md))",
    "Einsum": "explicit or implicit, also with an ellipsis; no label twice in an operand, no broadcast along a label",
    "Expand": "no gradient by the shape",
    "GRU": f"{_RECURRENT}; `linear_before_reset` 0 and 1",
    "Gather": f"any axis; {_NO_TRAINED_INDICES}",
    "GatherElements": f"any axis; {_NO_TRAINED_INDICES}",
    "GatherND": f"any `batch_dims`; {_NO_TRAINED_INDICES}",
    "Gelu": "exact and `tanh`",
    "GlobalMaxPool": "equal maxima share the gradient",
    "GroupNormalization": "a scale for each channel (operator set 21), not for each group (18)",
    "LSTM": f"{_RECURRENT}; no peepholes; input and forget gates apart",
    "LRN": "a fixed number of channels; windows of an odd size, as ONNX Runtime has them",
    "Max": "equal operands share the gradient",
    "MaxPool": "fixed spatial sizes; row-major indices (`storage_order` 0)",
    "Min": "equal operands share the gradient",
    "Mod": "the remainder of `fmod`, which floats have",
    "Pad": "modes `constant`, `reflect`, `edge` and `wrap`; no gradient by the pads and the value",
    "Pow": "the gradient by the exponent counts a base of 0 or less as 1",
    "RNN": f"{_RECURRENT}",
    "ReduceL1": "constant axes",
    "ReduceL2": "constant axes; 0 where the norm is 0",
    "ReduceLogSum": "constant axes",
    "ReduceLogSumExp": "constant axes",
    "ReduceMax": "constant axes; equal maxima share the gradient",
    "ReduceMean": "constant axes",
    "ReduceMin": "constant axes; equal minima share the gradient",
    "ReduceProd": "constant axes; not where an element is 0",
    "ReduceSum": "constant axes",
    "ReduceSumSquare": "constant axes",
    "Resize": "mode `nearest` at any size; `linear` and `cubic` between fixed sizes, with `antialias` and every way to "
    "transform coordinates but `tf_crop_and_resize`",
    "ScatterElements": f"reductions `none` (indices without repeats) and `add`; {_NO_TRAINED_INDICES}",
    "ScatterND": f"reductions `none` (indices without repeats) and `add`; {_NO_TRAINED_INDICES}",
    "Tile": "constant repeats; at most one size unknown",
    "TopK": "values only; no gradient by the count",
    "Where": "no gradient by the condition",
}

# What `onnx-ad` 0.3.0 doesn't differentiate by all operands, or not in training; tests/torch/test_oracle.py holds it to
# that.
ORACLE_PARTLY = {
    "BatchNormalization": "agrees, frozen",
    "ConvTranspose": "agrees, by the input",
}

_VERIFIED = {
    "GRU": "finite differences, PyTorch's module (`linear_before_reset` 1), PyTorch's autograd on the formulas (0)",
}


def render() -> str:
    """Markdown: a table for every family of operators, and the list of those without a gradient."""
    parts = []
    for family, rules in FAMILIES.items():
        lines = [f"### {family}", "", "| operator | restrictions | verified by | `onnx-ad` |", "|---|---|---|---|"]
        lines += [
            f"| `{operator}` | {RESTRICTIONS.get(operator, '')} | {_VERIFIED.get(operator, _EVERYWHERE)} | "
            f"{ORACLE_PARTLY.get(operator, 'agrees')} |"
            for operator in sorted(rules)
        ]
        parts.append("\n".join(lines))
    names = ", ".join(f"`{operator}`" for operator in sorted(WITHOUT_GRADIENT))
    parts.append(f"### Allowed, with no gradient\n\nPiecewise constant, or not about values: {names}.")
    parts.append("### Refused\n\nWherever they are in a trainable network:\n\n" + "\n".join(_refused()))
    return "\n\n".join(parts) + "\n"


def _refused() -> list[str]:
    """A line for each reason to refuse operators."""
    names: dict[str, list[str]] = {}
    for operator, why in sorted(REFUSED.items()):
        names.setdefault(why, []).append(f"`{operator}`")
    return [f"- {', '.join(operators)}: {why}." for why, operators in names.items()]


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
