"""The start of a run: settings are resolved, graphs built and the initial checkpoint written, or the run resumes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from pydantic import TypeAdapter

from shoal_core.data.backbones import no_models
from shoal_core.data.config import DatasetConfig
from shoal_core.data.manifest import Manifest
from shoal_core.errors import Conflict
from shoal_core.graphs.documents import network_document
from shoal_core.graphs.forward import ForwardGraph
from shoal_core.graphs.losses import loss_for
from shoal_core.graphs.optimizers import Optimizer
from shoal_core.graphs.recipes import build_forward, default_config
from shoal_core.graphs.training_step import forward_with_parameters
from shoal_core.keys import DatasetKeys, RunKeys
from shoal_core.store import ObjectStore
from shoal_core.training.augmenting import soft_targets
from shoal_core.training.checkpoints import Checkpoint
from shoal_core.training.fitting import StepFitter
from shoal_core.training.inheriting import decide_origin, go_on_from, inherit
from shoal_core.training.job_preparing import no_script, prepare_job
from shoal_core.training.job_settings import JobOptions
from shoal_core.training.merging import round_state
from shoal_core.training.networks.loading import OwnNetwork, own_network
from shoal_core.training.recipes import sample_seconds
from shoal_core.training.requests import run_config
from shoal_core.training.rounds import read_manifest, read_settings
from shoal_core.training.schemes import SharedRun, choose_scheme
from shoal_core.training.settings import MAX_ROUNDS, TrainingSettings, resolve_settings
from shoal_core.training.signatures import signature_of
from shoal_core.training.states import RoundState, last_round
from shoal_core.training.transferring import Grafting, grafting_of
from shoal_core.training.worker import ONE_VCPU, Worker, speed_up, useful_threads

_OPTIMIZER: TypeAdapter[Optimizer] = TypeAdapter(Optimizer)


def start_training(
    artifacts: ObjectStore,
    run_id: str,
    dataset: str,
    version: str,
    production: Callable[[], str | None] = lambda: None,
    serving: Callable[[str], int] = no_models,
    jobs: JobOptions | None = None,
    script: Callable[[str], bytes] = no_script,
    worker: Worker = ONE_VCPU,
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
        serving: Gives the version of a model that serves, for a backbone. Raises `NotFound`.
        jobs: The stack's SageMaker jobs; None where it has none.
        script: Reads an object of the uploads bucket, for a user's own script. Raises `NotFound`.
        worker: What the stack's functions that train have.

    Raises:
        NotFound: The dataset version isn't committed.
        BadDataset: Nothing can be learnt from it: no training samples, or one class only.
        BadConfig: The recipe or the loss doesn't fit the data.
        BadNetwork: The user's own network can't be trained on them.
        Conflict: The run was started on other data.
    """
    keys = RunKeys(run_id)
    if not artifacts.exists(keys.settings):
        manifest = Manifest.decode(artifacts.read(DatasetKeys(dataset, version).manifest))
        config = run_config(artifacts, run_id, manifest)
        own = own_network(artifacts, config, manifest)
        settings, graphs, checkpoint = _prepare(
            config, manifest, run_id, grafting_of(artifacts, config, manifest, serving), jobs, own, worker
        )
        for key, model in graphs.items():
            artifacts.write(key, model.SerializeToString(deterministic=True))
        if config.training.warm_start:
            if isinstance(config.training.warm_start, str):
                inherited = go_on_from(artifacts, config.training.warm_start, checkpoint, manifest, settings)
            else:
                origin = decide_origin(artifacts, run_id, production)
                inherited = inherit(artifacts, origin, checkpoint, manifest, settings)
            checkpoint = inherited.checkpoint
            settings = settings.model_copy(
                update={"origin": inherited.origin, "reasons": {**settings.reasons, "warm_start": inherited.note}}
            )
        settings = prepare_job(artifacts, settings, lambda: network_document(graphs[keys.forward_graph]), script)
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


def _prepare(
    config: DatasetConfig,
    manifest: Manifest,
    run_id: str,
    grafting: Grafting | None,
    jobs: JobOptions | None,
    own: OwnNetwork | None,
    worker: Worker,
) -> tuple[TrainingSettings, dict[str, onnx.ModelProto], Checkpoint]:
    """Settings, graphs by key and the initial checkpoint."""
    more_seconds = grafting.seconds if grafting else own.fitted.seconds if own else 0.0
    settings, _ = resolve_settings(config, manifest, run_id, more_seconds, jobs, worker)
    signature = grafting.signature if grafting else signature_of(manifest)
    optimizer = _OPTIMIZER.validate_python({"name": settings.optimizer, **settings.optimizer_config})
    settings = settings.model_copy(
        update={
            "recipe_config": own.config
            if own
            else default_config(settings.recipe, signature, manifest.samples["train"]) | config.network,
            "optimizer_config": optimizer.model_dump(mode="json"),
        }
    )
    if grafting is not None:
        forward = grafting.forward(settings)
    elif own is not None:
        forward, settings = own.forward, own.told(settings)
    else:
        forward = build_forward(settings.recipe, settings.recipe_config, signature, settings.seed)
    largest = max(forward.initial[name].size for name in forward.parameters)
    settings = settings.model_copy(update={"threads": useful_threads(settings.recipe, largest, settings.threads)})
    soft = {"soft": True} if soft_targets(settings) else {}
    loss = loss_for(signature.task, settings.loss, settings.loss_config | soft)
    settings = _shared(config, manifest, settings, forward, optimizer, more_seconds, worker)
    fitter = StepFitter(loss, optimizer, settings, config.training.recompute or "auto", worker)
    if grafting is not None:
        settings, graphs = grafting.graphs(settings, config, forward, fitter.graphs)
    else:
        keys = RunKeys(run_id)
        graphs = {
            keys.forward_graph: forward_with_parameters(forward),
            **fitter.graphs(keys.step_graph, forward),
        }
    return fitter.told(settings), graphs, _initial_checkpoint(run_id, forward, optimizer)


def _shared(
    config: DatasetConfig,
    manifest: Manifest,
    settings: TrainingSettings,
    forward: ForwardGraph,
    optimizer: Optimizer,
    more_seconds: float,
    worker: Worker,
) -> TrainingSettings:
    """The settings with the scheme that suits the network where the run leaves it open, and whether workers pay."""
    if settings.workers == 1:
        return settings
    shared = SharedRun(
        settings,
        samples=manifest.samples["train"],
        validation=manifest.samples[settings.validation_split],
        parameters=sum(forward.initial[name].size for name in forward.parameters),
        slots=len(optimizer.slots),
        sample_seconds=(sample_seconds(settings.recipe, manifest.spec) + more_seconds) / speed_up(settings.threads),
        asked_rounds=config.rounds,
    )
    if config.training.scheme not in (None, "auto"):
        return _warned(config, settings, shared.warning(settings.scheme))
    choice = choose_scheme(shared, MAX_ROUNDS)
    if choice.scheme != settings.scheme:
        training = config.training.model_copy(update={"scheme": choice.scheme})
        # Lambda it is, since there are several workers.
        asked = config.model_copy(update={"training": training})
        resolved, _ = resolve_settings(asked, manifest, settings.run_id, worker=worker)
        kept = settings.model_dump(include={"recipe_config", "optimizer_config", "threads"})
        reasons = {**resolved.reasons, **settings.reasons}
        warnings = tuple(dict.fromkeys((*resolved.warnings, *settings.warnings)))
        settings = resolved.model_copy(update={**kept, "reasons": reasons, "warnings": warnings})
    settings = settings.model_copy(
        update={
            "reasons": {**settings.reasons, "scheme": f"{choice.scheme}: {choice.why}"},
            "inferred": (*settings.inferred, "training.scheme"),
        }
    )
    return _warned(config, settings, choice.warning)


def _warned(config: DatasetConfig, settings: TrainingSettings, warning: str | None) -> TrainingSettings:
    # Whoever didn't ask for so many workers has nothing to change.
    if warning is None or config.workers is None:
        return settings
    return settings.model_copy(update={"warnings": (*settings.warnings, warning)})


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
