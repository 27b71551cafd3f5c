"""A network is fitted to a dataset version and tried before any run, and what came of it is kept for the runs.

```
networks/<sha256>/network.onnx                              the file as it was uploaded
networks/<sha256>/<dataset>/<version>/<settings>/forward.onnx, values.safetensors
                                                 network.json   the index, written last
```
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from shoal_core.data.manifest import Manifest
from shoal_core.data.shards import Tensors, encode_shard
from shoal_core.errors import BadNetwork, NotFound
from shoal_core.importing.bounded import run_bounded
from shoal_core.importing.limits import Limits
from shoal_core.keys import NetworkKeys
from shoal_core.store import ObjectStore
from shoal_core.training.batches import load_shard
from shoal_core.training.networks.config import BATCH_FILE, LIMITS, TRIAL, FittedNetwork, NetworkConfig
from shoal_core.training.networks.inputs import given_inputs
from shoal_core.training.signatures import signature_of

SAMPLES = 16
"""Real ones that a network is tried on."""
_ANOMALIES = "Use recipe autoencoder, or upload the data again with another task."
_UPLOAD = "Give the file to `shoal train DATASET --network FILE`, which uploads it."


def fit_network(
    artifacts: ObjectStore, config: NetworkConfig, manifest: Manifest, limits: Limits = LIMITS
) -> FittedNetwork:
    """A network fitted to a dataset version and tried on its samples, or what an earlier call made of it.

    Args:
        artifacts: The artifacts bucket, with the network's file.
        config: The network, and what the user said about it.
        manifest: The dataset version.
        limits: Of the trial.

    Raises:
        BadNetwork: It can't be trained on this dataset version; the reason says why.
        UnsupportedOperator: An operator without a gradient, by name.
        BadConfig: The user named what isn't there.
        TooLarge: Over a limit.
    """
    if manifest.spec.target.task == "anomaly":
        raise BadNetwork("A network of one's own predicts; this dataset version is for finding anomalies.", _ANOMALIES)
    keys = NetworkKeys(config.sha256)
    fitted = keys.fitted(manifest.dataset, manifest.version, config.digest)
    if not artifacts.exists(fitted.index):
        answer, forward, values = _tried(network_bytes(artifacts, config.sha256), config, artifacts, manifest, limits)
        artifacts.write(fitted.forward, forward)
        artifacts.write(fitted.values, values)
        artifacts.write_new(fitted.index, answer.encode(), "application/json")
    return FittedNetwork.decode(artifacts.read(fitted.index))


def describe_inputs(manifest: Manifest) -> dict[str, Any]:
    """What a dataset version gives to a network, as `registry.network_records.NetworkInputs`."""
    signature = signature_of(manifest)
    return {
        "dataset": manifest.dataset,
        "version": manifest.version,
        "task": manifest.spec.target.task,
        "outputs": signature.outputs,
        "classes": list(manifest.spec.target.classes),
        "inputs": [{**asdict(given), "shape": list(given.shape)} for given in given_inputs(signature)],
    }


def network_bytes(artifacts: ObjectStore, sha256: str) -> bytes:
    """An uploaded network. Raises `BadNetwork` where it isn't there, or isn't what it was."""
    try:
        data = artifacts.read(NetworkKeys(sha256).network)
    except NotFound as error:
        raise BadNetwork(f"There is no network {sha256[:12]}.", _UPLOAD) from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise BadNetwork(f"The network {sha256[:12]} isn't the file that was uploaded.", _UPLOAD)
    return data


def _tried(
    data: bytes, config: NetworkConfig, artifacts: ObjectStore, manifest: Manifest, limits: Limits
) -> tuple[FittedNetwork, bytes, bytes]:
    """What the trial's process found, the forward graph, and the first values."""
    signature = signature_of(manifest)
    request = {
        "signature": signature.model_dump(mode="json"),
        "config": config.model_dump(mode="json"),
        "loss": None,
        "loss_config": {},
        "limits": asdict(limits),
    }
    with tempfile.TemporaryDirectory(prefix="shoal-") as folder:
        path = Path(folder) / "network.onnx"
        path.write_bytes(data)
        path.with_name(BATCH_FILE).write_bytes(encode_shard(_real_batch(artifacts, manifest)))
        answer, rest = run_bounded(TRIAL, path, json.dumps(request).encode(), limits)
    split = int(answer.pop("forward_bytes"))
    return FittedNetwork.model_validate({"config": config, **answer}), rest[:split], rest[split:]


def _real_batch(artifacts: ObjectStore, manifest: Manifest) -> Tensors:
    """The first training samples of each shard in turn, as a step graph takes them."""
    shards: Iterator[Tensors] = (load_shard(artifacts, shard) for shard in manifest.train)
    batch: dict[str, list[np.ndarray]] = {}
    left = SAMPLES
    for shard in shards:
        for name, array in shard.items():
            batch.setdefault(name, []).append(array[:left])
        left -= len(shard["target"])
        if left <= 0:
            break
    whole = {name: np.concatenate(arrays) for name, arrays in batch.items()}
    if manifest.spec.target.task == "multilabel":
        whole["target"] = whole["target"].astype(np.float32)
    return whole
