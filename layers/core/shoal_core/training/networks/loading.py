"""A user's own network as a run starts with it: the forward graph, and what was decided about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx

from shoal_core.data.config import DatasetConfig
from shoal_core.data.manifest import Manifest
from shoal_core.data.shards import decode_shard
from shoal_core.graphs.forward import BUFFER, PARAMETER, ForwardGraph
from shoal_core.keys import NetworkKeys
from shoal_core.store import ObjectStore
from shoal_core.training.networks.config import RECIPE, FittedNetwork, NetworkConfig
from shoal_core.training.networks.verifying import fit_network
from shoal_core.training.settings import TrainingSettings


@dataclass(frozen=True)
class OwnNetwork:
    """A network of the user's on a dataset version."""

    forward: ForwardGraph
    fitted: FittedNetwork

    @property
    def config(self) -> dict[str, Any]:
        """The recipe's settings."""
        return self.fitted.config.model_dump(mode="json")

    def told(self, settings: TrainingSettings) -> TrainingSettings:
        """A run's settings with what was decided about its network."""
        numbers = f"{self.fitted.numbers:,} numbers in {len(self.fitted.parameters)} tensors are trained."
        reasons = {**settings.reasons, RECIPE: " ".join((numbers, *self.fitted.notes))}
        return settings.model_copy(update={"reasons": reasons, "warnings": (*settings.warnings, *self.fitted.warnings)})


def own_network(artifacts: ObjectStore, config: DatasetConfig, manifest: Manifest) -> OwnNetwork | None:
    """The network of recipe `network`, None for other recipes; fitted and tried first where that hasn't been done.

    Raises:
        BadConfig: `network` in the config is wrong.
        BadNetwork: It isn't there, or can't be trained on this dataset version.
        BadInput: What was kept of it is damaged.
    """
    if config.recipe != RECIPE:
        return None
    wanted = NetworkConfig.of(config.network)
    fitted = fit_network(artifacts, wanted, manifest)
    keys = NetworkKeys(wanted.sha256).fitted(manifest.dataset, manifest.version, wanted.digest)
    values = decode_shard(artifacts.read(keys.values), f"Object {keys.values!r}")
    forward = ForwardGraph(
        model=onnx.load_model_from_string(artifacts.read(keys.forward)),
        parameters=fitted.parameters,
        initial={name: values[PARAMETER + name] for name in fitted.parameters},
        buffers={name: values[BUFFER + name] for name in fitted.buffers},
        dropouts=fitted.dropouts,
    )
    return OwnNetwork(forward, fitted)
