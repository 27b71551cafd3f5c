"""The same as a BentoML service: `bentoml serve bento_service:Digits`; MODEL names the file."""

from __future__ import annotations

import os
from pathlib import Path

import bentoml
import numpy as np
import onnxruntime as ort
from PIL import Image


@bentoml.service(workers=1, traffic={"timeout": 30})
class Digits:
    def __init__(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])

    @bentoml.api
    def predict(self, image: Path) -> dict:
        with Image.open(image) as picture:
            pixels = np.asarray(picture.convert("L"))[np.newaxis, np.newaxis]
        probabilities = self.session.run(None, {"image": pixels})[0][0]
        return {"label": int(probabilities.argmax()), "probabilities": probabilities.tolist()}
