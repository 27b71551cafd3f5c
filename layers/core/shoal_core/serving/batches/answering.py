"""Tensors to answers: always as many rows per run of the model, so that a record's answer never depends on others.

ONNX Runtime may add up the numbers of a row in another order when a run has another number of rows; the last bits of
an answer would then depend on where a job was cut. Short runs are filled up with copies of their last row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal_core.serving.prediction import answers
from shoal_core.serving.sessions import ServedModel, outputs

Answer = dict[str, Any]


class Answering:
    """Answers rows with one version of a model.

    Args:
        model: The version.
        run_rows: Rows of each run.
        probabilities: Whether to tell those of all classes.
    """

    def __init__(self, model: ServedModel, run_rows: int, probabilities: bool) -> None:
        self.model = model
        self.run_rows = _fixed_rows(model) or run_rows
        self._probabilities = probabilities

    @property
    def gives_vectors(self) -> bool:
        """Whether a value is several numbers, as that of a pipeline that ends in a pool."""
        shape = self.model.session.get_outputs()[0].shape
        return self.model.spec.target.task == "regression" and len(shape) > 1 and shape[1:] != [1]

    def answer(self, tensors: dict[str, NDArray[Any]], rows: int) -> list[Answer]:
        """One answer per row, as `prediction.answers` has them."""
        if not rows:
            return []
        step = self.run_rows
        found = [
            self._run({name: tensor[start : start + step] for name, tensor in tensors.items()}, min(step, rows - start))
            for start in range(0, rows, step)
        ]
        return answers(self.model.spec, np.concatenate(found), self._probabilities)

    def _run(self, tensors: dict[str, NDArray[Any]], rows: int) -> NDArray[np.float32]:
        missing = self.run_rows - rows
        if missing:
            tensors = {
                name: np.concatenate([tensor, np.repeat(tensor[-1:], missing, axis=0)])
                for name, tensor in tensors.items()
            }
        result: NDArray[np.float32] = outputs(self.model, tensors)
        return result[:rows]


def _fixed_rows(model: ServedModel) -> int | None:
    """The rows that the graph itself asks for, if it does."""
    first = model.session.get_inputs()[0].shape[:1]
    return int(first[0]) if first and isinstance(first[0], int) else None
