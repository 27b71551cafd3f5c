"""Shoal: drop a dataset into S3, get back a model endpoint.

```python
import shoal

run = shoal.push("digits.zip").wait()
print(run.metrics["accuracy"])
print(shoal.model("digits").predict("three.png").label)
```

Everything talks to the embedded cloud of the current folder (`shoal up`); with `stack="NAME"` to one on AWS.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shoal._batches import BatchJob
from shoal._datasets import Dataset
from shoal._models import Model, Prediction
from shoal._runs import Run
from shoal._streams import Streams
from shoal._tunings import Tuning
from shoal.client import Client, connect
from shoal.errors import (
    BadRequest,
    BatchFailed,
    ConnectionFailed,
    NotAuthorised,
    NotFound,
    RunFailed,
    RunPaused,
    ServiceFailed,
    ShoalError,
    TuningFailed,
    WaitTimedOut,
)

if TYPE_CHECKING:
    from shoal._splits import Split

__all__ = [
    "BadRequest",
    "BatchFailed",
    "BatchJob",
    "Client",
    "ConnectionFailed",
    "Dataset",
    "Model",
    "NotAuthorised",
    "NotFound",
    "Prediction",
    "Run",
    "RunFailed",
    "RunPaused",
    "ServiceFailed",
    "ShoalError",
    "Streams",
    "Tuning",
    "TuningFailed",
    "WaitTimedOut",
    "batch",
    "batches",
    "connect",
    "dataset",
    "datasets",
    "export",
    "import_model",
    "load",
    "model",
    "models",
    "network_inputs",
    "push",
    "quote",
    "run",
    "runs",
    "stream",
    "train",
    "tune",
    "tuning",
    "tunings",
]

__version__ = "0.1.0"


def push(
    path: str | Path,
    *,
    name: str | None = None,
    target: str | None = None,
    config: str | Path | None = None,
    stack: str | None = None,
    **settings: Any,  # noqa: ANN401 - fields of dataset.yaml, of several types
) -> Run:
    """Upload an archive, a table or a folder of images, which starts a run; see `Client.push`."""
    return connect(stack).push(path, name=name, target=target, config=config, **settings)


def train(
    dataset: str,
    network: Any = None,  # noqa: ANN401 - a path, a torch.nn.Module or a keras.Model; none need be installed
    /,
    *,
    version: str | None = None,
    stack: str | None = None,
    **settings: Any,  # noqa: ANN401 - fields of dataset.yaml, of several types
) -> Run:
    """Train again on a dataset that is there, with other settings or a network of your own; see `Client.train`."""
    return connect(stack).train(dataset, network, version=version, **settings)


def quote(
    dataset: str,
    *,
    version: str | None = None,
    stack: str | None = None,
    **settings: Any,  # noqa: ANN401 - fields of dataset.yaml, of several types
) -> dict[str, Any]:
    """What a run would take on Lambda and on SageMaker, in minutes and dollars; see `Client.quote`."""
    return connect(stack).quote(dataset, version=version, **settings)


def network_inputs(dataset: str, *, version: str | None = None, stack: str | None = None) -> dict[str, Any]:
    """What a network of your own is given of a dataset, and what it shall answer; see `Client.network_inputs`."""
    return connect(stack).network_inputs(dataset, version)


def export(
    module: Any,  # noqa: ANN401 - a torch.nn.Module; torch need not be installed
    example: Any,  # noqa: ANN401 - a tensor, or a tuple of them
    path: str | Path = "model.onnx",
    *,
    tolerance: float = 1e-3,
) -> dict[str, Any]:
    """Export a PyTorch module to an ONNX file that answers as it does; see `shoal.convert.exporting.export`."""
    from shoal.convert.exporting import export as exported

    return exported(module, example, path, tolerance=tolerance)


def import_model(
    path: str | Path,
    *,
    name: str | None = None,
    labels: str | Path | None = None,
    config: str | Path | None = None,
    vocabulary: str | Path | None = None,
    stack: str | None = None,
    **description: Any,  # noqa: ANN401 - fields of model.yaml, of several types
) -> Run:
    """Upload a model that was made elsewhere, or a pipeline of models, and register it: see `Client.import_model`."""
    client = connect(stack)
    return client.import_model(path, name=name, labels=labels, config=config, vocabulary=vocabulary, **description)


def batch(
    model: str,
    path: str | Path,
    *,
    job: str | None = None,
    version: int | None = None,
    probabilities: bool = False,
    stack: str | None = None,
    **settings: Any,  # noqa: ANN401 - fields of batch.yaml, of several types
) -> BatchJob:
    """Upload records and have a model answer all of them; see `Client.batch`."""
    return connect(stack).batch(model, path, job=job, version=version, probabilities=probabilities, **settings)


def batches(model: str | None = None, *, stack: str | None = None) -> list[BatchJob]:
    """Batch jobs, newest first; only those of a model when it is named."""
    return connect(stack).batches(model)


def runs(dataset: str | None = None, *, stack: str | None = None) -> list[Run]:
    """Runs, newest first; only those of a dataset when it is named."""
    return connect(stack).runs(dataset)


def run(run_id: str, *, stack: str | None = None) -> Run:
    """One run. Raises `NotFound`."""
    return connect(stack).run(run_id)


def datasets(*, stack: str | None = None) -> list[Dataset]:
    """All datasets."""
    return connect(stack).datasets()


def dataset(name: str, *, stack: str | None = None) -> Dataset:
    """One dataset. Raises `NotFound`."""
    return connect(stack).dataset(name)


def tune(
    dataset: str,
    *,
    trials: int | None = None,
    minutes: float | None = None,
    dollars: float | None = None,
    space: Mapping[str, Any] | str | Path | None = None,
    stack: str | None = None,
    **options: Any,  # noqa: ANN401 - lanes, seed, version, eta and rungs
) -> Tuning:
    """Search recipes and hyperparameters; the best trial becomes a version of the model: see `Client.tune`."""
    client = connect(stack)
    return client.tune(dataset, trials=trials, minutes=minutes, dollars=dollars, space=space, **options)


def tunings(dataset: str | None = None, *, stack: str | None = None) -> list[Tuning]:
    """Searches, newest first; only those of a dataset when it is named."""
    return connect(stack).tunings(dataset)


def tuning(tuning_id: str, *, stack: str | None = None) -> Tuning:
    """One search. Raises `NotFound`."""
    return connect(stack).tuning(tuning_id)


def load(
    name: str,
    *,
    split: str = "train",
    version: str | None = None,
    cache: str | Path | None = None,
    verify: bool = False,
    stack: str | None = None,
) -> Split:
    """One split of a dataset version, as arrays; see `Client.load`."""
    return connect(stack).load(name, split=split, version=version, cache=cache, verify=verify)


def stream(*, stack: str | None = None) -> Streams:
    """Records in, answers out: `send`, `answers`, `dead_letters`, `replay`; see `Streams`."""
    return connect(stack).stream()


def models(*, stack: str | None = None) -> list[Model]:
    """All models."""
    return connect(stack).models()


def model(name: str, *, stack: str | None = None) -> Model:
    """One model. Raises `NotFound`."""
    return connect(stack).model(name)
