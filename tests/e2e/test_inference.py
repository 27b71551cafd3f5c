"""The Open Inference Protocol with a client that isn't ours: NVIDIA's, over the real gateway."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from PIL import Image
from tritonclient.utils import InferenceServerException

from tests.e2e.cloud import LocalCloud
from tests.support.aws import ROOT

HELD_OUT = sorted((ROOT / "examples/digits/held-out").glob("*.png"))
PIXELS = np.stack([np.asarray(Image.open(path).convert("L"))[np.newaxis] for path in HELD_OUT])


class Client:
    """Triton's client, with the token that every call needs (it keeps what it is given, so each gets its own)."""

    def __init__(self, cloud: LocalCloud) -> None:
        self._client = triton.InferenceServerClient(cloud.status["api"].removeprefix("http://"))
        self._token = cloud.status["token"]

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        return lambda *args, **options: method(*args, headers={"Authorization": f"Bearer {self._token}"}, **options)


@pytest.fixture(scope="module")
def client(digits: LocalCloud) -> Iterator[Client]:
    yield Client(digits)


def image(binary: bool, pixels: np.ndarray = PIXELS) -> triton.InferInput:
    tensor = triton.InferInput("image", list(pixels.shape), "UINT8")
    return tensor.set_data_from_numpy(pixels, binary_data=binary)


def test_health_and_metadata(client: Client) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    (tensor,) = client.get_model_metadata("digits", "1")["inputs"]
    assert tensor == {"name": "image", "datatype": "UINT8", "shape": [-1, 1, 8, 8]}


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_tensors_in_json_and_in_binary(client: Client, binary_in: bool, binary_out: bool) -> None:
    wanted = triton.InferRequestedOutput("probabilities", binary_data=binary_out)
    answer = client.infer("digits", [image(binary_in)], outputs=[wanted], request_id="7")
    probabilities = answer.as_numpy("probabilities")
    assert answer.get_response()["id"] == "7"
    assert probabilities.shape == (len(HELD_OUT), 10)
    right = sum(str(best) == path.name[0] for best, path in zip(probabilities.argmax(axis=1), HELD_OUT, strict=True))
    assert right >= 0.95 * len(HELD_OUT)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_a_compressed_request(client: Client, algorithm: str) -> None:
    answer = client.infer("digits", [image(True)], request_compression_algorithm=algorithm)
    assert answer.as_numpy("probabilities").shape == (len(HELD_OUT), 10)


def test_an_error_is_one_that_the_client_understands(client: Client) -> None:
    with pytest.raises(InferenceServerException, match=r"the model takes \[-1, 1, 8, 8\]"):
        client.infer("digits", [image(True, np.zeros((1, 1, 8, 9), np.uint8))])
    with pytest.raises(InferenceServerException, match="Model 'nobody' doesn't exist"):
        client.get_model_metadata("nobody")
