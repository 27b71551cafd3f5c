"""The start of a run with a backbone: what is frozen, what is trained, and the graphs of both."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import onnx

from shoal_core.data.backbones import Backbone, read_backbone, require_fit, require_tokens
from shoal_core.data.config import DatasetConfig
from shoal_core.data.manifest import Manifest
from shoal_core.errors import BadConfig
from shoal_core.graphs.autodiff import opset_of
from shoal_core.graphs.forward import ForwardGraph
from shoal_core.graphs.grafting import block_of, frozen_part, joined, tuned_part
from shoal_core.graphs.recipes import build_transfer
from shoal_core.graphs.signature import FeaturesInput, NetworkSignature
from shoal_core.graphs.training_step import forward_with_parameters
from shoal_core.keys import ModelKeys, RunKeys
from shoal_core.store import ObjectStore
from shoal_core.training.features import TUNED_RATE, Transfer
from shoal_core.training.networks.work import seconds_per_sample
from shoal_core.training.settings import TrainingSettings
from shoal_core.training.signatures import signature_of

_DIGEST_LENGTH = 32

Graphs = dict[str, onnx.ModelProto]


@dataclass(frozen=True)
class Grafting:
    """A backbone on a dataset version.

    Attributes:
        backbone: What is known of it.
        graph: Its graph.
        manifest: The dataset version.
        blocks: How many of its last blocks are fine-tuned.
    """

    backbone: Backbone
    graph: onnx.ModelProto
    manifest: Manifest
    blocks: int

    @property
    def seconds(self) -> float:
        """What a step that fine-tunes takes per sample, about."""
        if not self.blocks:
            return 0.0
        return seconds_per_sample(tuned_part(self.graph, self.backbone, self.blocks))

    @property
    def signature(self) -> NetworkSignature:
        """What the head sees: features in place of an image or of tokens, and what a table has beside them."""
        whole = signature_of(self.manifest)
        return whole.model_copy(update={"image": None, "tokens": None, "features": FeaturesInput(shape=self.shape)})

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample's features."""
        return block_of(self.backbone, self.blocks).shape if self.blocks else (self.backbone.width,)

    def forward(self, settings: TrainingSettings) -> ForwardGraph:
        """The network on features: the blocks that are fine-tuned, and the head."""
        tuned = tuned_part(self.graph, self.backbone, self.blocks) if self.blocks else None
        return build_transfer(settings.recipe_config, self.signature, settings.seed, tuned, opset_of(self.graph))

    def graphs(
        self,
        settings: TrainingSettings,
        config: DatasetConfig,
        forward: ForwardGraph,
        rounds: Callable[[str, ForwardGraph], Graphs],
    ) -> tuple[TrainingSettings, Graphs]:
        """The run's graphs by key, and its settings with what was decided.

        Args:
            settings: As they were resolved.
            config: What was asked for.
            forward: The network on features.
            rounds: Makes what rounds run of a network, under a key and beside it.
        """
        keys = RunKeys(settings.run_id)
        frozen = frozen_part(self.graph, self.backbone, self.manifest.spec.image, self.blocks)
        head = forward_with_parameters(forward)
        begins = self._tuned_from(settings, config)
        # Until fine-tuning begins, the backbone's weights are inputs that nothing changes.
        own = tuple(name for name in forward.parameters if name not in self._tuned(forward))
        first = forward if begins == 1 else replace(forward, parameters=own)
        graphs = {
            keys.frozen_graph: frozen,
            keys.head_graph: head,
            keys.forward_graph: joined(frozen, head),
            **rounds(keys.step_graph, first),
        }
        if begins is not None:
            graphs |= rounds(keys.tuning_graph, forward)
        mirrored = "flip" in settings.augment
        transfer = Transfer(
            backbone=self.backbone.name,
            version=self.backbone.version,
            digest=self.backbone.digest,
            blocks=self.blocks,
            tuned_from=begins,
            features=self._digest(frozen, mirrored),
            shape=self.shape,
            kept=block_of(self.backbone, self.blocks).kept if self.blocks else (),
            mirrored=mirrored,
            mixes_rows=self.backbone.mixes_rows,
        )
        reasons = {**settings.reasons, "backbone": self._why(transfer, forward)}
        return settings.model_copy(update={"transfer": transfer, "reasons": reasons}), graphs

    def _tuned(self, forward: ForwardGraph) -> set[str]:
        """Parameters of the backbone."""
        names = {tensor.name for tensor in self.graph.graph.initializer}
        return names.intersection(forward.parameters)

    def _tuned_from(self, settings: TrainingSettings, config: DatasetConfig) -> int | None:
        """The first round that fine-tunes: half of the rounds are the head's, which begins with random weights."""
        asked = config.training.fine_tune_from
        if not self.blocks:
            return None
        if asked is not None and asked > settings.rounds:
            raise BadConfig(
                f"training.fine_tune_from: round {asked}; the run has {settings.rounds}.",
                f"Use 1 to {settings.rounds}, or leave it out.",
            )
        return asked or settings.rounds // 2 + 1

    def _digest(self, frozen: onnx.ModelProto, mirrored: bool) -> str:
        """What the features follow from: the frozen graph, the data, and what is made of a sample."""
        graph = hashlib.sha256(frozen.SerializeToString(deterministic=True)).hexdigest()
        identity = f"{graph}\n{self.manifest.digest}\n{mirrored}"
        return hashlib.sha256(identity.encode()).hexdigest()[:_DIGEST_LENGTH]

    def _why(self, transfer: Transfer, forward: ForwardGraph) -> str:
        """What is frozen and what is trained, in words."""
        told = [f"{self.backbone.reference}, frozen: its features are computed once and kept for other runs"]
        if transfer.tuned_from is not None:
            numbers = sum(forward.initial[name].size for name in self._tuned(forward))
            what = f"the last {self.blocks} of its {len(self.backbone.blocks)} blocks ({numbers:,} numbers)"
            told.append(f"{what} are trained from round {transfer.tuned_from} on, at {TUNED_RATE:g} of the rate")
            if self.backbone.batch_norm:
                told.append("its BatchNormalizations keep their mean and variance")
        image, own = self.manifest.spec.image, self.backbone.image
        if image is not None and own is not None:
            sizes = [(form.height, form.width, form.channels) for form in (image, own)]
            if sizes[0] != sizes[1]:
                here, there = ("x".join(map(str, size)) for size in sizes)
                told.append(f"the data's images ({here}) are resized to its own ({there}) inside the model")
        return f"{'; '.join(told)}."


def grafting_of(
    artifacts: ObjectStore, config: DatasetConfig, manifest: Manifest, production: Callable[[str], int]
) -> Grafting | None:
    """The backbone of a run on a dataset version; None where its settings ask for none.

    Args:
        artifacts: The artifacts bucket.
        config: What was asked for.
        manifest: The dataset version.
        production: Gives the version of a model that serves. Raises `NotFound`.

    Raises:
        BadConfig: There is no such backbone, or it doesn't fit the data; or it has fewer blocks.
    """
    if not config.uses_backbone:
        if config.training.fine_tune:
            raise BadConfig("training.fine_tune needs a backbone.", "Set recipe: transfer, or leave it out.")
        return None
    backbone = read_backbone(artifacts, config.backbone, production)
    require_fit(manifest.spec, backbone)
    require_tokens(manifest.spec, backbone)
    blocks = config.training.fine_tune or 0
    if blocks:
        block_of(backbone, blocks)
    graph = onnx.load_model_from_string(artifacts.read(ModelKeys(backbone.name, backbone.version).onnx))
    return Grafting(backbone, graph, manifest, blocks)
