"""The end of a run: the best checkpoint becomes the model that is served."""

from __future__ import annotations

from shoal_core.graphs.export import export_model
from shoal_core.keys import RunKeys
from shoal_core.store import ObjectStore
from shoal_core.training.checkpoints import Checkpoint
from shoal_core.training.settings import TrainingSettings
from shoal_core.training.states import learned_threshold


def export_checkpoint(
    artifacts: ObjectStore, settings: TrainingSettings, checkpoint: Checkpoint, threshold: float | None = None
) -> None:
    """Write a checkpoint as `model.onnx`: one file from raw tensors to answers, parameters inside.

    Args:
        artifacts: The artifacts bucket.
        settings: Of the run.
        checkpoint: The run's best.
        threshold: Anomalies: what this checkpoint's validation scores gave; None where its round's record tells.

    Raises:
        BadNetwork: The checkpoint doesn't fit the run's forward graph.
    """
    keys = RunKeys(settings.run_id)
    if threshold is None:
        threshold = learned_threshold(artifacts, settings.run_id) if settings.task == "anomaly" else 0.0
    model = export_model(
        artifacts.read(keys.forward_graph),
        checkpoint.parameters,
        settings.task,
        settings.classes,
        settings.target_mean,
        settings.target_std,
        checkpoint.buffers,
        threshold,
    )
    artifacts.write(keys.model, model)
