"""The model card: what is known of a version, from the facts of its run, and what people said of it in dataset.yaml.

Source: M. Mitchell et al., "Model Cards for Model Reporting", 2019.
"""

from __future__ import annotations

import json
from typing import Any

from shoal_core.data.canonical import canonical_json
from shoal_core.data.manifest import Manifest
from shoal_core.data.report import Report
from shoal_core.keys import DatasetKeys, ModelKeys, RunKeys
from shoal_core.registry.card_files import FORMS
from shoal_core.registry.card_markdown import markdown
from shoal_core.registry.card_page import page
from shoal_core.registry.records import ModelVersion
from shoal_core.store import ObjectStore
from shoal_core.training.evaluating import evaluated_counts, read_evaluation
from shoal_core.training.metrics import ClassificationCounts
from shoal_core.training.requests import run_config
from shoal_core.training.rounds import read_settings
from shoal_core.training.states import last_round, read_round

MAX_SOURCES = 20
_SETTINGS = ("recipe", "optimizer", "learning_rate", "batch_size", "epochs", "workers", "rounds", "seed", "loss")


def write_card(artifacts: ObjectStore, model: str, version: ModelVersion) -> None:
    """Write a version's card in all its forms; the same facts give the same bytes."""
    card = card_of(artifacts, model, version)
    keys = ModelKeys(model, version.version)
    artifacts.write(keys.card("html"), page(card), FORMS["html"])
    artifacts.write(keys.card("md"), markdown(card).encode(), FORMS["md"])
    artifacts.write(keys.card("json"), canonical_json(card), FORMS["json"])


def card_of(artifacts: ObjectStore, model: str, version: ModelVersion) -> dict[str, Any]:
    """All facts of a version that a run made, as plain JSON."""
    manifest = Manifest.decode(artifacts.read(DatasetKeys(version.dataset, version.dataset_version).manifest))
    evaluation = read_evaluation(artifacts, version.run_id)
    counts = evaluated_counts(artifacts, version.run_id)
    bins = counts.calibration_bins() if isinstance(counts, ClassificationCounts) else []
    return {
        "schema_version": 1,
        "model": model,
        "version": version.version,
        "created_at": version.created_at,
        "task": version.task,
        "digest": version.digest,
        "bytes": version.bytes,
        "signature": version.signature,
        "lineage": version.lineage,
        "said": run_config(artifacts, version.run_id, manifest).card.model_dump(mode="json"),
        "data": _data(artifacts, manifest),
        "training": _training(artifacts, version.run_id),
        "evaluation": evaluation.record(),
        "warnings": list(evaluation.warnings),
        "calibration": [{"samples": count, "confidence": sure, "accuracy": hits} for count, sure, hits in bins],
        "optimization": version.optimization,
        "promotion": version.promotion,
    }


def lineage_of(artifacts: ObjectStore, manifest: Manifest, run_id: str, artifact: str, digest: str) -> dict[str, Any]:
    """Upload, dataset version, run, checkpoint, file: each named so that it is found again.

    Args:
        artifacts: The artifacts bucket.
        manifest: Of the dataset version.
        run_id: The run.
        artifact: Key of the file that the run chose to serve.
        digest: Its sha256.
    """
    keys = DatasetKeys(manifest.dataset, manifest.version)
    request = json.loads(artifacts.read(keys.request)) if artifacts.exists(keys.request) else {}
    files = request.get("files") or []
    best = read_round(artifacts, run_id, last_round(artifacts, run_id)).best_round
    return {
        "upload": {
            "files": [
                {
                    name: file.get(name)
                    for name in ("bucket", "key", "version", "size", "sha256", "etag")
                    if file.get(name)
                }
                for file in files[:MAX_SOURCES]
            ],
            "count": len(files) or (request.get("listing") or {}).get("count", 0),
        },
        "dataset": {"name": manifest.dataset, "version": manifest.version, "manifest_sha256": manifest.digest},
        "run": run_id,
        "checkpoint": {"round": best, "key": RunKeys(run_id).checkpoint(best)},
        "artifact": {"key": artifact, "sha256": digest},
        **_pretrained(artifacts, run_id),
    }


def _pretrained(artifacts: ObjectStore, run_id: str) -> dict[str, Any]:
    """The backbone that a model stands on, if it does."""
    used = read_settings(artifacts, run_id).transfer
    if used is None:
        return {}
    return {"pretrained": {"name": used.backbone, "version": used.version, "sha256": used.digest}}


def _data(artifacts: ObjectStore, manifest: Manifest) -> dict[str, Any]:
    keys = DatasetKeys(manifest.dataset, manifest.version)
    found: dict[str, Any] = {
        "name": manifest.dataset,
        "version": manifest.version,
        "kind": manifest.spec.kind,
        "samples": manifest.samples,
        "class_counts": manifest.class_counts,
    }
    if artifacts.exists(keys.report):
        report = Report.model_validate_json(artifacts.read(keys.report))
        found |= {"kept": report.kept, "dropped": report.dropped, "duplicates": report.duplicates}
        found["flags"] = [flag.model_dump(mode="json") for flag in report.flags]
    return found


def _training(artifacts: ObjectStore, run_id: str) -> dict[str, Any]:
    settings = read_settings(artifacts, run_id)
    last = read_round(artifacts, run_id, last_round(artifacts, run_id))
    told = settings.model_dump(mode="json")
    return {
        "settings": {name: told[name] for name in _SETTINGS if told.get(name) is not None},
        "rounds": [{"round": one.round, "loss": one.loss, "score": one.score[0]} for one in last.history],
        "best_round": last.best_round,
        "reason": last.reason,
        "validation_split": last.validation_split,
    }
