"""The model that a user's own script left: checked against the data, verified as a foreign model, and scored."""

from __future__ import annotations

import io
import tarfile
from typing import Any

from shoal_core.data.manifest import Manifest
from shoal_core.errors import BadModel, NotFound
from shoal_core.importing.limits import Limits
from shoal_core.importing.verifying import VerifiedModel, verify_model
from shoal_core.keys import RunKeys
from shoal_core.store import ObjectStore
from shoal_core.training.batches import load_shard
from shoal_core.training.evaluating import OUTPUTS, exported_predictor
from shoal_core.training.history import RoundResult
from shoal_core.training.metrics import metrics_of, summary
from shoal_core.training.rounds import read_manifest
from shoal_core.training.scoring import score_shards
from shoal_core.training.sessions import session_of
from shoal_core.training.settings import TrainingSettings
from shoal_core.training.states import RoundRecord

MODEL = "model.onnx"
_FIX = "Save it as model.onnx in the folder that SM_MODEL_DIR names; docs/sagemaker.md has an example."
# Numpy's names -> the protocol's.
_DATATYPES = {"image": "UINT8", "numbers": "FP32", "categories": "INT64", "tokens": "INT32", "sequence": "FP32"}


def bring_model(artifacts: ObjectStore, settings: TrainingSettings, job: str) -> None:
    """Make the model of a script's job the run's, and write down the run's one round.

    Nothing happens when it is there already.

    Args:
        artifacts: The artifacts bucket.
        settings: Of the run.
        job: Name of the job that completed.

    Raises:
        BadModel: There is no model.onnx, it can't be served, or it doesn't take this data or answer its task.
        TooLarge: It is over a limit.
        TrainingDiverged: One of its answers isn't finite.
    """
    keys = RunKeys(settings.run_id)
    if artifacts.exists(keys.round(1)):
        return
    model = _unpacked(artifacts, keys.job_output(job), job)
    manifest = read_manifest(artifacts, settings)
    verified = verify_model(model, _shapes(manifest))
    _require_fitting(verified, settings, manifest)
    artifacts.write(keys.model, model)
    counts = score_shards(
        exported_predictor(session_of(model, settings.threads), settings),
        manifest.shards(settings.validation_split),
        lambda shard: load_shard(artifacts, shard),
        settings,
        limit=settings.validation_samples,
    )
    metrics = metrics_of(counts, list(settings.classes))
    loss = float(summary(metrics).get("loss", summary(metrics).get("rmse", 0.0)))
    record = RoundRecord(
        run_id=settings.run_id,
        round=1,
        rounds=1,
        loss=loss,
        validation=summary(metrics),
        validation_split=settings.validation_split,
        learning_rate=settings.learning_rate,
        samples=settings.epochs * manifest.samples["train"],
        steps=settings.total_steps,
        workers=1,
        best_round=1,
        finished=True,
        reason="The user's script ended.",
        history=(RoundResult(round=1, loss=loss, score=metrics.score()),),
        checkpoint_sha256=verified.digest,
    )
    artifacts.write_new(keys.round(1), record.encode(), "application/json")


def _unpacked(artifacts: ObjectStore, key: str, job: str) -> bytes:
    """model.onnx of a job's model.tar.gz, never more than a model may be."""
    limit = Limits().model_bytes
    try:
        with tarfile.open(fileobj=io.BytesIO(artifacts.read(key)), mode="r:gz") as tar:
            for entry in tar:
                if entry.name.removeprefix("./") == MODEL and entry.isfile():
                    file = tar.extractfile(entry)
                    if entry.size > limit or file is None:
                        raise BadModel(f"{MODEL} of job {job} has {entry.size:,} bytes; {limit:,} are allowed.", _FIX)
                    return file.read()
    except NotFound as error:
        raise BadModel(f"Training job {job} left no model.", _FIX) from error
    except (tarfile.TarError, EOFError, OSError) as error:
        raise BadModel(f"The output of training job {job} can't be unpacked: {error}.", _FIX) from error
    raise BadModel(f"Training job {job} left no {MODEL}.", _FIX)


def _shapes(manifest: Manifest) -> dict[str, list[int]]:
    """Tensor of the dataset -> its shape for one sample."""
    spec = manifest.spec
    found: dict[str, list[int]] = {}
    if spec.image is not None:
        found["image"] = [1, spec.image.channels, spec.image.height, spec.image.width]
    if spec.sequence is not None:
        if spec.sequence.number_names:
            found["sequence"] = [1, spec.sequence.window, len(spec.sequence.number_names)]
        if spec.sequence.categories:
            found["categories"] = [1, spec.sequence.window, len(spec.sequence.categories)]
    if spec.table is not None:
        widths = {
            "numbers": len(spec.table.number_names),
            "categories": len(spec.table.categories),
            "tokens": sum(text.length for text in spec.table.texts),
        }
        found |= {name: [1, width] for name, width in widths.items() if width}
    return found


def _require_fitting(verified: VerifiedModel, settings: TrainingSettings, manifest: Manifest) -> None:
    """Raise `BadModel` unless a model takes the dataset's own tensors and answers its task."""
    given = _shapes(manifest)
    for tensor in verified.inputs:
        wanted = given.get(tensor.name)
        if wanted is None:
            raise BadModel(
                f"{MODEL} takes {tensor.name!r}, which the samples of {settings.dataset!r} don't have.",
                f"Its inputs must be among {', '.join(sorted(given))}, as the shards have them.",
            )
        fits = len(tensor.shape) == len(wanted) and all(
            size in (-1, have) for size, have in zip(tensor.shape[1:], wanted[1:], strict=True)
        )
        if tensor.datatype != _DATATYPES[tensor.name] or not fits:
            raise BadModel(
                f"{MODEL} takes {tensor.name!r} as {tensor.datatype} {list(tensor.shape)}.",
                f"The shards have {_DATATYPES[tensor.name]} {[-1, *wanted[1:]]}.",
            )
    if verified.batch is not None:
        raise BadModel(f"{MODEL} takes {verified.batch} samples at a time.", "Export it with a dynamic batch.")
    name, width = OUTPUTS[settings.task], None if settings.task == "regression" else len(settings.classes)
    answer: Any = next((output for output in verified.outputs if output.name == name), None)
    ranks = 1 if width is None else 2
    if answer is None or len(answer.shape) != ranks or (width is not None and answer.shape[1] not in (-1, width)):
        form = "[N], in the target's units" if width is None else f"[N, {width}]"
        raise BadModel(
            f"{MODEL} answers {', '.join(output.name for output in verified.outputs)}.",
            f"This data needs an output {name!r}, float32 {form}.",
        )
    if settings.task == "classification" and answer.answers != "probabilities":
        raise BadModel(f"The rows of {name!r} don't sum to 1.", "End the network with a softmax.")
