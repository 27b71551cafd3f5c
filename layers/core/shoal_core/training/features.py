"""What a run knows of its backbone, and where the features are that its rounds learn from.

Needs neither `onnx` nor `onnxruntime`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from shoal_core.data.canonical import canonical_json
from shoal_core.data.config_types import Split
from shoal_core.data.manifest import Manifest, ShardFile
from shoal_core.errors import BadInput, NotFound
from shoal_core.frozen import Frozen
from shoal_core.keys import FeatureKeys, RunKeys
from shoal_core.store import ObjectStore
from shoal_core.training.checkpoints import Checkpoint

if TYPE_CHECKING:  # which has a `Transfer` among its fields
    from shoal_core.training.settings import TrainingSettings

TUNED_RATE = 0.1
"""What the learning rate is multiplied by once pretrained weights change: they are near where they ought to be."""


class Transfer(Frozen):
    """What a run does with a backbone.

    Attributes:
        backbone: The model.
        version: Its version.
        digest: Of its graph.
        blocks: How many of its last blocks are fine-tuned.
        tuned_from: The round (from 1) that fine-tuning begins with; None where nothing is fine-tuned.
        features: Under which digest the features lie: of the frozen graph, the data, and what is made of a sample.
        shape: Of one sample's features.
        kept: Raw tensors that are needed beside them.
        mirrored: Whether every training image is there a second time, as its mirror image.
        mixes_rows: See `Backbone.mixes_rows`.
    """

    backbone: str
    version: int = Field(ge=1)
    digest: str
    blocks: int = Field(default=0, ge=0)
    tuned_from: int | None = Field(default=None, ge=1)
    features: str
    shape: tuple[int, ...]
    kept: tuple[str, ...] = ()
    mirrored: bool = False
    mixes_rows: bool = False

    def tunes(self, round_: int) -> bool:
        """Whether a round changes the backbone's weights, too."""
        return self.tuned_from is not None and round_ >= self.tuned_from


class FeatureShard(Frozen):
    """`features/<digest>/train/shard-00000.json`: the features of one shard, written after them."""

    schema_version: Literal[1] = 1
    files: tuple[ShardFile, ...]


class FeatureIndex(Frozen):
    """`features.json`: all features of a dataset version by split; where it is there, all of them are."""

    schema_version: Literal[1] = 1
    splits: dict[Split, tuple[ShardFile, ...]]

    def encode(self) -> bytes:
        """The canonical bytes of the index."""
        return canonical_json(self.model_dump(mode="json"))


def feature_keys(settings: TrainingSettings) -> FeatureKeys | None:
    """Where a run's features lie; None for a run without a backbone."""
    if settings.transfer is None:
        return None
    return FeatureKeys(settings.dataset, settings.version, settings.transfer.features)


def training_shards(
    artifacts: ObjectStore, settings: TrainingSettings, manifest: Manifest, split: Split
) -> tuple[ShardFile, ...]:
    """What the rounds of a run read of a split: the dataset's shards, or with a backbone their features.

    Raises:
        NotFound: The features haven't been computed.
        BadInput: Their index is damaged.
    """
    keys = feature_keys(settings)
    if keys is None:
        return manifest.shards(split)
    try:
        return FeatureIndex.model_validate_json(artifacts.read(keys.index)).splits[split]
    except NotFound as error:
        raise NotFound(
            f"The features {keys.index!r} aren't there: run {settings.run_id!r} hasn't computed them.",
            f"Train on {settings.dataset!r} with this backbone once (`shoal train`): that computes them for all runs.",
        ) from error
    except (ValueError, KeyError) as error:
        raise BadInput(
            f"The features {keys.index!r} can't be read: {error}.", "Delete it; it is made again."
        ) from error


def scoring_graph(settings: TrainingSettings) -> str:
    """Key of the graph that scores a round on `training_shards`."""
    keys = RunKeys(settings.run_id)
    return keys.forward_graph if settings.transfer is None else keys.head_graph


def step_graph(settings: TrainingSettings, round_: int) -> str:
    """Key of the graph of a round's steps."""
    keys = RunKeys(settings.run_id)
    return keys.tuning_graph if settings.transfer is not None and settings.transfer.tunes(round_) else keys.step_graph


def first_step(settings: TrainingSettings, round_: int) -> int:
    """The local step (from 0) with which the optimizer began what a round goes on with."""
    transfer = settings.transfer
    if transfer is None or transfer.tuned_from is None or not transfer.tunes(round_):
        return 0
    return (transfer.tuned_from - 1) * settings.steps_per_round


def begun(settings: TrainingSettings, checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint that a round starts from: the first one that fine-tunes begins with a fresh optimizer.

    Its moments are those of a network that could only move at its end, and are nothing for the blocks that join.
    """
    if settings.transfer is None or settings.transfer.tuned_from != checkpoint.round + 1:
        return checkpoint
    return replace(checkpoint, state={name: np.zeros_like(array) for name, array in checkpoint.state.items()})
