"""Tensors to answers: always as many rows per run of the model, so that a record's answer never depends on others.

ONNX Runtime may add up the numbers of a row in another order when a run has another number of rows; the last bits of
an answer would then depend on where a job was cut. Short runs are filled up with copies of their last row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal_core.errors import BadInput
from shoal_core.serving.batches.tally import RecordError
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

    def answer(self, tensors: dict[str, NDArray[Any]], rows: int) -> list[Answer | RecordError]:
        """One outcome per row: an answer as `prediction.answers` has it, or why the model can't give one."""
        return [
            outcome
            for start in range(0, rows, self.run_rows)
            for outcome in self._outcomes(tensors, start, min(start + self.run_rows, rows))
        ]

    def _outcomes(self, tensors: dict[str, NDArray[Any]], start: int, stop: int) -> list[Answer | RecordError]:
        """Of one run; where the model refuses it, of its halves, so that a bad row stands alone."""
        try:
            result = self._run({name: tensor[start:stop] for name, tensor in tensors.items()}, stop - start)
        except BadInput as error:
            if stop - start == 1:
                return [RecordError("not_answered", error.reason, error.fix)]
            middle = (start + stop) // 2
            return self._outcomes(tensors, start, middle) + self._outcomes(tensors, middle, stop)
        return list(answers(self.model.spec, result, self._probabilities))

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
