"""The start of a run: settings are resolved, graphs built and the initial checkpoint written, or the run resumes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from pydantic import TypeAdapter

from shoal_core.data.manifest import Manifest
from shoal_core.errors import Conflict
from shoal_core.graphs.forward import ForwardGraph
from shoal_core.graphs.losses import loss_for
from shoal_core.graphs.optimizers import Optimizer
from shoal_core.graphs.recipes import build_forward, default_config
from shoal_core.graphs.training_step import build_training_step, forward_with_parameters
from shoal_core.keys import DatasetKeys, RunKeys
from shoal_core.store import ObjectStore
from shoal_core.training.augmenting import soft_targets
from shoal_core.training.checkpoints import Checkpoint
from shoal_core.training.inheriting import decide_origin, inherit
from shoal_core.training.merging import round_state
from shoal_core.training.rounds import read_manifest, read_settings
from shoal_core.training.settings import TrainingSettings, resolve_settings
from shoal_core.training.signatures import signature_of
from shoal_core.training.states import RoundState, last_round

_OPTIMIZER: TypeAdapter[Optimizer] = TypeAdapter(Optimizer)


def start_training(
    artifacts: ObjectStore,
    run_id: str,
    dataset: str,
    version: str,
    production: Callable[[], str | None] = lambda: None,
) -> RoundState:
    """Start a run on a committed dataset version, or say where a started one goes on.

    Graphs and the initial checkpoint are written first, `settings.json` last: where it exists, the run has started,
    and only the newest committed round is looked up.

    Args:
        artifacts: The artifacts bucket.
        run_id: The run.
        dataset: Name of the dataset.
        version: Its version; `commit_dataset` must have committed it.
        production: Gives the run of the model version that serves, for a warm start; None when there is none.

    Raises:
        NotFound: The dataset version isn't committed.
        BadDataset: Nothing can be learnt from it: no training samples, or one class only.
        BadConfig: The recipe or the loss doesn't fit the data.
        Conflict: The run was started on other data.
    """
    keys = RunKeys(run_id)
    if not artifacts.exists(keys.settings):
        manifest = Manifest.decode(artifacts.read(DatasetKeys(dataset, version).manifest))
        settings, graphs, checkpoint = _prepare(manifest, run_id)
        for key, model in graphs.items():
            artifacts.write(key, model.SerializeToString(deterministic=True))
        if manifest.config.training.warm_start:
            origin = decide_origin(artifacts, run_id, production)
            inherited = inherit(artifacts, origin, checkpoint, manifest, settings)
            checkpoint = inherited.checkpoint
            settings = settings.model_copy(
                update={"origin": inherited.origin, "reasons": {**settings.reasons, "warm_start": inherited.note}}
            )
        artifacts.write(keys.checkpoint(0), checkpoint.encode())
        artifacts.write_new(keys.settings, settings.encode(), "application/json")
    settings = read_settings(artifacts, run_id)
    if (settings.dataset, settings.version) != (dataset, version):
        raise Conflict(
            f"Run {run_id!r} was started on dataset {settings.dataset!r} version {settings.version}, "
            f"not on {dataset!r} version {version}.",
            "Use another run id.",
        )
    return round_state(artifacts, settings, read_manifest(artifacts, settings), last_round(artifacts, run_id))


def _prepare(manifest: Manifest, run_id: str) -> tuple[TrainingSettings, dict[str, onnx.ModelProto], Checkpoint]:
    """Settings, graphs by key and the initial checkpoint."""
    settings, _ = resolve_settings(manifest.config, manifest, run_id)
    signature = signature_of(manifest)
    optimizer = _OPTIMIZER.validate_python({"name": settings.optimizer, **settings.optimizer_config})
    settings = settings.model_copy(
        update={
            "recipe_config": default_config(settings.recipe, signature, manifest.samples["train"])
            | manifest.config.network,
            "optimizer_config": optimizer.model_dump(mode="json"),
        }
    )
    forward = build_forward(settings.recipe, settings.recipe_config, signature, settings.seed)
    soft = {"soft": True} if soft_targets(settings) else {}
    loss = loss_for(signature.task, settings.loss, settings.loss_config | soft)
    keys = RunKeys(run_id)
    graphs = {
        keys.forward_graph: forward_with_parameters(forward),
        keys.step_graph: build_training_step(forward, loss, optimizer),
    }
    return settings, graphs, _initial_checkpoint(run_id, forward, optimizer)


def _initial_checkpoint(run_id: str, forward: ForwardGraph, optimizer: Optimizer) -> Checkpoint:
    return Checkpoint(
        run_id=run_id,
        round=0,
        step=0,
        parameters=dict(forward.initial),
        state={
            f"{slot}.{name}": np.zeros_like(forward.initial[name])
            for slot in optimizer.slots
            for name in forward.parameters
        },
        buffers=dict(forward.buffers),
    )
