"""The least that a process needs to predict one image with plain ONNX Runtime, numpy and Pillow.

`start_up_floor.py OUTCOME BEGAN MODEL IMAGE`: the model from a local file, no framework, no AWS, no runtime client.
OUTCOME gets milliseconds by part, named as in start_up.py.
"""

# ruff: noqa: E402 - what is imported when is what is measured
from __future__ import annotations

import time

started = time.monotonic()

import numpy as np
import onnxruntime as ort
from PIL import Image

imported = time.monotonic()

import json
import sys
from pathlib import Path

outcome, began, model, image = sys.argv[1:]

loading = time.monotonic()
options = ort.SessionOptions()
options.intra_op_num_threads = 1
options.inter_op_num_threads = 1
session = ort.InferenceSession(Path(model).read_bytes(), options, providers=["CPUExecutionProvider"])
loaded = time.monotonic()
with Image.open(image) as picture:
    pixels = np.asarray(picture.convert("L"))[np.newaxis, np.newaxis]
label = int(session.run(None, {"image": pixels})[0][0].argmax())
answered = time.monotonic()

parts = {
    "process": (started - float(began)) * 1000,
    "import": (imported - started) * 1000,
    "load": (loaded - loading) * 1000,
    "predict": (answered - loaded) * 1000,
}
Path(outcome).write_text(json.dumps({**parts, "total": sum(parts.values()), "label": label}))
