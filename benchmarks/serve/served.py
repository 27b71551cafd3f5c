"""What the serving benchmarks share: a cloud with one small CNN in it, one image, and its requests in every form."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import serving
from benchmarks.pipeline import DIGITS, IMAGE, fresh_cloud
from benchmarks.serve.servers import Target
from tests.e2e.cloud import LocalCloud

NAME, SIDE = "digits", 28
"""MNIST's size: the recipe's network is the one that MNIST would get, whatever the pixels show."""


@dataclass(frozen=True)
class Served:
    """A cloud that serves the model, and the image of every request.

    Attributes:
        cloud: The embedded cloud.
        worker: The environment of its predict worker.
        model: The model's file.
        image: One PNG.
        pixels: The same as uint8 [1, 1, 28, 28].
    """

    cloud: LocalCloud
    worker: serving.Worker
    model: Path
    image: bytes
    pixels: np.ndarray

    def v2_json(self) -> bytes:
        """The pixels as a request of the Open Inference Protocol, in JSON."""
        tensor = {
            "name": "image",
            "datatype": "UINT8",
            "shape": list(self.pixels.shape),
            "data": self.pixels.ravel().tolist(),
        }
        return json.dumps({"inputs": [tensor]}).encode()

    def v2_binary(self) -> tuple[bytes, int]:
        """The same in binary, and the bytes of JSON before them."""
        size = {"binary_data_size": self.pixels.size}
        tensor = {"name": "image", "datatype": "UINT8", "shape": list(self.pixels.shape), "parameters": size}
        head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        return head + self.pixels.tobytes(), len(head)

    def target(self, protocol: str) -> Target:
        """Our own endpoint: `image` or `v2`."""
        headers = {"Authorization": f"Bearer {self.cloud.status['token']}"}
        if protocol == "image":
            url = f"{self.cloud.status['api']}/models/{NAME}/predict?top=10"
            return Target("Shoal", url, self.image, {**headers, "Content-Type": "image/png"})
        url = f"{self.cloud.status['api']}/v2/models/{NAME}/infer"
        return Target("Shoal, V2 JSON", url, self.v2_json(), {**headers, "Content-Type": "application/json"})


@contextmanager
def served_model() -> Iterator[Served]:
    """Train the model on the embedded cloud, and serve it; gone at the end."""
    with fresh_cloud() as (cloud, _), tempfile.TemporaryDirectory(prefix="shoal-bench-serve-") as scratch:
        # One round: how good the model is has no part in how fast it answers.
        size = f"image_size={SIDE}"
        cloud.shoal("push", str(DIGITS), "--name", NAME, "--rounds", "1", "--set", size, "--json")
        onnx, spec = serving.model_bytes(cloud, NAME)
        model = Path(scratch) / "model.onnx"
        model.write_bytes(onnx)
        buffer = io.BytesIO()
        with Image.open(IMAGE) as picture:
            picture.convert("L").resize((SIDE, SIDE)).save(buffer, "PNG")
        image = buffer.getvalue()
        pixels = spec.encode_image(image)[np.newaxis]
        cloud.http("POST", f"/models/{NAME}/predict", image, "image/png")  # so that a worker is there
        yield Served(cloud, serving.Worker.of(cloud), model, image, pixels)


def event(served: Served, path: str, body: str, encoded: bool, **headers: str) -> dict[str, Any]:
    """An HTTP API event as the gateway makes it, of one request."""
    found = serving.image_event()
    found["rawPath"] = found["requestContext"]["http"]["path"] = path
    kept = {
        "host": "localhost",
        "x-forwarded-proto": "http",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    return {**found, "headers": kept, "body": body, "isBase64Encoded": encoded, "pathParameters": {"name": NAME}}
