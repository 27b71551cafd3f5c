"""A run's settings as people see them: as dataset.yaml would say them."""

from __future__ import annotations

from typing import Any

from shoal_core.data.manifest import Manifest
from shoal_core.training.settings import TrainingSettings, most_workers


def shown_settings(settings: TrainingSettings, manifest: Manifest) -> dict[str, Any]:
    """The settings in force as dataset.yaml would say them, and what follows from them: for people, not for workers."""
    spec, config = manifest.spec, manifest.config
    shown: dict[str, Any] = {
        "task": settings.task,
        "target": spec.target.source,
        "recipe": settings.recipe,
        "seed": settings.seed,
        "split": config.split.model_dump(mode="json"),
        "workers": settings.workers,
        "most_workers": most_workers(manifest, settings.batch_size),
        "rounds": settings.rounds,
        "training": _shown_training(settings),
        "steps_per_round": settings.steps_per_round,
        "patience": settings.patience,
        "network": settings.recipe_config,
        "augment": settings.augment or "none",
        "reasons": settings.reasons,
        "compute": "lambda" if settings.job is None else {"service": "sagemaker", **settings.job.model_dump()},
    }
    if settings.transfer is not None:
        transfer = settings.transfer
        shown |= {"backbone": f"{transfer.backbone}@{transfer.version}", "fine_tune": transfer.blocks}
        shown |= {"fine_tune_from": transfer.tuned_from} if transfer.tuned_from else {}
    if "class_weights" in settings.loss_config:
        shown["class_weights"] = dict(zip(settings.classes, settings.loss_config["class_weights"], strict=True))
    if spec.image is not None:
        shown |= {"image_size": [spec.image.height, spec.image.width], "channels": spec.image.channels}
    if spec.table is not None:
        shown["columns"] = list(spec.table.names)
    if spec.sequence is not None:
        shown |= {"columns": list(spec.sequence.names), "window": spec.sequence.window}
    return shown


def _shown_training(settings: TrainingSettings) -> dict[str, Any]:
    """The fields of `training` in dataset.yaml that are in force; those that mean nothing in this run are left out."""
    shown = settings.model_dump(include={"optimizer", "learning_rate", "batch_size", "epochs", "schedule", "patience"})
    optimizer, loss = settings.optimizer_config, settings.loss_config
    shown |= {name: optimizer[name] for name in ("momentum", "nesterov", "weight_decay") if name in optimizer}
    shown["loss"] = settings.loss
    shown["warmup_rounds"] = settings.warmup_steps / settings.steps_per_round
    if settings.schedule in ("step", "plateau"):
        shown |= settings.model_dump(include={"decay_factor", "decay_rounds"})
    if settings.task == "anomaly":
        shown["anomaly_quantile"] = settings.anomaly_quantile
    elif settings.task != "regression":
        shown["class_weights"] = "balanced" if "class_weights" in loss else "none"
    if settings.loss == "cross_entropy":
        shown["label_smoothing"] = loss.get("label_smoothing", 0.0)
    asked = {
        "clip_norm": optimizer.get("clip_norm"),
        "focal_gamma": loss.get("gamma"),
        "huber_delta": loss.get("delta"),
        "ema": settings.ema,
        "swa": settings.swa,
        "warm_start": settings.origin,
        "lost_workers": None if settings.lost_workers == "fail" else settings.lost_workers,
        "compression": None if settings.compression == "none" else settings.compression,
        "scheme": settings.scheme if settings.workers > 1 else None,
    }
    if settings.scheme == "diloco":
        asked |= settings.model_dump(include={"outer_learning_rate", "outer_momentum"})
    return shown | {name: value for name, value in asked.items() if value is not None}
