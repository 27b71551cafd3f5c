"""FastAPI with onnxruntime, as one writes it by hand: `uvicorn fastapi_app:app`; MODEL names the file."""

from __future__ import annotations

import io
import os

import numpy as np
import onnxruntime as ort
from fastapi import FastAPI, Request
from PIL import Image

options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
app = FastAPI()


@app.post("/predict")
async def predict(request: Request) -> dict:
    with Image.open(io.BytesIO(await request.body())) as picture:
        pixels = np.asarray(picture.convert("L"))[np.newaxis, np.newaxis]
    probabilities = session.run(None, {"image": pixels})[0][0]
    return {"label": int(probabilities.argmax()), "probabilities": probabilities.tolist()}
