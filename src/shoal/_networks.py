"""A network of one's own for a run: a PyTorch module, a Keras model or an ONNX file, uploaded by its sha256."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from botocore.exceptions import BotoCoreError, ClientError

from shoal.connection import Connection, aws_error
from shoal.errors import BadRequest, ConversionFailed

MAX_NETWORK_BYTES = 128 * 1024**2
"""What a worker can train; the cloud refuses more."""
SUFFIX = ".onnx"
_KERAS = ("keras", "tf_keras")
_ALMOST = 1e-8
_CONVERTED = (".pt", ".pth", ".pt2", ".h5", ".keras", ".pb", ".tflite", ".safetensors")


def network_inputs(connection: Connection, dataset: str, version: str | None) -> dict[str, Any]:
    """What a dataset version gives to a network: `inputs` (name, datatype, shape of a sample, meaning), `outputs`.

    Raises:
        NotFound: No such dataset, or no committed version.
    """
    query = {"version": version} if version else None
    return connection.request("GET", f"/datasets/{quote(dataset, safe='')}/inputs", query=query)


def network_bytes(
    connection: Connection,
    dataset: str,
    version: str | None,
    network: Any,  # noqa: ANN401 - a path, a torch.nn.Module or a keras.Model
) -> bytes:
    """An ONNX file of what was given.

    Args:
        connection: The cloud, which tells what a module is called with.
        dataset: What the network is for.
        version: Its version; the newest committed one when None.
        network: The path of an ONNX file, a `torch.nn.Module`, or a `keras.Model`.

    Raises:
        BadRequest: None of them, too large, or its framework isn't installed here.
        ConversionFailed: Its exporter failed.
        NotFound: No such dataset.
    """
    if isinstance(network, str | Path):
        return _file(Path(network).expanduser())
    if callable(getattr(network, "named_parameters", None)):
        from shoal._torch_networks import export_module  # torch is looked for only then

        data = export_module(network, network_inputs(connection, dataset, version)["inputs"])
    elif type(network).__module__.partition(".")[0] in _KERAS or _is_keras(network):
        data = _keras(network)
    else:
        raise BadRequest(
            f"A {type(network).__name__} isn't a network.",
            "Give the path of an ONNX file, a torch.nn.Module or a Keras model.",
        )
    _require_size(len(data), f"The exported {type(network).__name__}")
    return data


def put_network(connection: Connection, data: bytes) -> str:
    """Upload a network unless it is there; its sha256.

    Raises:
        ConnectionFailed, NotAuthorised, NotFound, ServiceFailed: What S3 answered.
    """
    sha256 = hashlib.sha256(data).hexdigest()
    where = {"Bucket": connection.bucket, "Key": f"networks/{sha256}{SUFFIX}"}
    s3: Any = connection.s3
    try:
        try:
            if s3.head_object(**where)["ContentLength"] == len(data):
                return sha256
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("404", "NoSuchKey", "NotFound"):
                raise
        s3.put_object(**where, Body=data)
    except (ClientError, BotoCoreError) as error:
        raise aws_error(error, f"bucket {connection.bucket!r}") from error
    return sha256


def _file(path: Path) -> bytes:
    if path.suffix.lower() in _CONVERTED:
        raise BadRequest(
            f"{path.name} isn't an ONNX file.", f"Convert it: `shoal convert {path.name} -o network.onnx`."
        )
    try:
        _require_size(path.stat().st_size, path.name)
        data = path.read_bytes()
    except OSError as error:
        raise BadRequest(f"{path} can't be read: {error.strerror or error}.", "Name a file that exists.") from error
    if not data:
        raise BadRequest(f"{path.name} is empty.", "Export the network again.")
    return data


def _require_size(size: int, name: str) -> None:
    """Refuse what no worker could train, before it is read or sent."""
    if size > MAX_NETWORK_BYTES:
        raise BadRequest(
            f"{name} has {size:,} bytes; a network to train may have {MAX_NETWORK_BYTES:,}.",
            "Train a smaller network, or keep the large part fixed: docs/transfer.md.",
        )


def _is_keras(network: Any) -> bool:  # noqa: ANN401
    """Whether it is a user's subclass of Keras' model."""
    return any(base.__module__.partition(".")[0] in _KERAS for base in type(network).__mro__)


@contextlib.contextmanager
def _without_zeros(model: Any) -> Iterator[None]:  # noqa: ANN401
    """Fresh biases, which are 0, as almost 0: TensorFlow's exporter leaves out what adds nothing."""
    import numpy as np  # as below: Keras brings it; the commands don't wait for it

    fresh = [(variable, np.asarray(variable)) for variable in getattr(model, "trainable_variables", ())]
    fresh = [(variable, values) for variable, values in fresh if not values.any()]
    for variable, values in fresh:
        variable.assign(np.full_like(values, _ALMOST))
    try:
        yield
    finally:
        for variable, values in fresh:
            variable.assign(values)


def _call(model: Any) -> None:  # noqa: ANN401
    """Keras exports only what was called."""
    shape = getattr(model, "input_shape", None)
    if isinstance(shape, tuple) and all(size is None or isinstance(size, int) for size in shape):
        import numpy as np

        model(np.zeros([size or 1 for size in shape], np.float32))


def _keras(model: Any) -> bytes:  # noqa: ANN401
    """By Keras' own exporter (https://keras.io/api/models/model_saving_apis/export/)."""
    with tempfile.TemporaryDirectory(prefix="shoal-") as folder, _without_zeros(model):
        path = Path(folder) / f"network{SUFFIX}"
        try:
            _call(model)
            model.export(str(path), format="onnx", verbose=False)
        except ImportError as error:
            raise BadRequest(f"Keras can't export to ONNX here: {error}.", "Install what it asks for.") from error
        except Exception as error:
            text = " ".join(str(error).split())[:400]
            raise ConversionFailed(
                f"Keras can't export the model: {text}.", "Save it, and `shoal convert MODEL.keras -o network.onnx`."
            ) from error
        return path.read_bytes()
