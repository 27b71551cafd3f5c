"""An exported file beside answers that were recorded where the module lives: what `shoal.export` ends with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import comparing
import numpy as np
import onnx
from comparing import Request


def convert(request: Request) -> dict[str, Any]:
    """`source` is the exported file, `samples` an .npz of `in.<sample>.<input>` and `out.<sample>.<number>`."""
    model = onnx.load(request.source)
    names = [value.name for value in model.graph.input]
    samples, answers = [], []
    with np.load(str(request.samples), allow_pickle=False) as arrays:
        for number in range(request.count):
            samples.append({name: arrays[f"in.{number}.{name}"] for name in names})
            outputs = range(len(model.graph.output))
            answers.append([arrays[f"out.{number}.{output}"] for output in outputs])
    recorded = iter(answers)

    def answer(sample: Mapping[str, Any]) -> Sequence[Any]:
        return next(recorded)

    facts = {"from": "PyTorch", "by": "torch.onnx", "version": request.version}
    return comparing.finish(model, answer, samples, request, facts)


if __name__ == "__main__":
    comparing.run(convert)
