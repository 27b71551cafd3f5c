"""From an uploaded model file to a version that serves: verified, described, registered; refused with a reason.

The upload contract:
- `models/<name>/<any folders>/<file>.onnx` starts an import at once, with the `model.yaml` of its folder, if any;
- `model.yaml`, written after its model, imports the newest `.onnx` file of its folder once more, with what it says;
- `pipeline.yaml`, written after a vocabulary that it names, imports a pipeline of models that are there;
- files that `model.yaml` or `pipeline.yaml` names lie in its folder and start nothing; files of other frameworks are
  refused by name.

A version is named by its content (file and description), so repeated or late events find what is there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from shoal_core.data.config import MAX_CONFIG_BYTES, SourceFile
from shoal_core.errors import BadModel, BadName, NotFound, ShoalError, TooLarge
from shoal_core.importing.describing import FILE, ModelDescription, read_description
from shoal_core.importing.limits import Limits
from shoal_core.importing.verifying import VerifiedModel, verify_model
from shoal_core.importing.wrapping import Wrapped, tensors_spec, wrap_model
from shoal_core.keys import ModelKeys
from shoal_core.registry.beginning import Outcome
from shoal_core.registry.ingesting import Upload
from shoal_core.registry.names import check_name
from shoal_core.registry.promotion import SERVES, WAITS, Decide, Standing, too_early
from shoal_core.registry.records import ModelVersion, Source
from shoal_core.registry.routing import Aliases
from shoal_core.serving.sessions import ModelCache
from shoal_core.store import ObjectStore

if TYPE_CHECKING:
    from shoal_core.importing.backbones import PreparedBackbone

PREFIX = "models/"
PIPELINE = "pipeline.yaml"
SUFFIX = ".onnx"
# What somebody who has a model of another framework would upload.
FOREIGN = (
    *(".pt", ".pth", ".pt2", ".ckpt", ".safetensors", ".h5", ".hdf5", ".keras", ".pb", ".tflite", ".caffemodel"),
    *(".prototxt", ".pkl", ".pickle", ".joblib", ".skops", ".ubj", ".bst", ".ort", ".mlmodel"),
)
ID_LENGTH = 12
MAX_NAMED_BYTES = 16 * 1024**2
MAX_TRIES = 2
"""Lambda delivers an event three times: the third one says that the others died, so that no import stays unfinished."""


class Uploads(ObjectStore, Protocol):
    """What importing needs of the bucket that users write to."""

    def describe(self, key: str, version: str | None = None) -> SourceFile:
        """An object's exact version and size. Raises `NotFound`."""
        ...

    def versions(self, prefix: str) -> Iterator[SourceFile]:
        """Current objects under a prefix."""
        ...

    def modified(self, key: str, version: str | None = None) -> str:
        """When the object was last written; sorts by time. Raises `NotFound`."""
        ...


class ImportCatalog(Protocol):
    """What importing needs of the catalog."""

    def aliases(self, model: str) -> Aliases:
        """See `shoal_core.aws.model_catalog.ModelCatalog.aliases`."""

    def begin_import(self, run_id: str, model: str, source: Sequence[Source]) -> int:
        """See `shoal_core.aws.imports.Imports.begin_import`."""

    def import_failed(self, run_id: str, model: str, error: str, message: str) -> None:
        """See `shoal_core.aws.imports.Imports.import_failed`."""

    def reserve_version(self, model: str, run_id: str) -> int:
        """See `shoal_core.aws.model_catalog.ModelCatalog.reserve_version`."""

    def publish_version(
        self, model: str, version: ModelVersion, decide: Decide | None = None, order: str | None = None
    ) -> ModelVersion:
        """See `shoal_core.aws.model_catalog.ModelCatalog.publish_version`."""


@dataclass(frozen=True)
class Imported:
    """What came of an upload; `version` is the registered one, if there is one."""

    outcome: Outcome
    model: str = ""
    version: ModelVersion | None = None


@dataclass(frozen=True)
class _File:
    """A model's file: where it lies, and what came with it."""

    model: str
    source: SourceFile
    description: ModelDescription


@dataclass(frozen=True)
class ImportModel:
    """An uploaded model's way to a version, over a bucket of uploads, a store of artefacts and a catalog.

    Attributes:
        uploads: The bucket that users write to.
        artifacts: Where models go.
        catalog: Where runs and versions are recorded.
        now: The time, ISO 8601 in UTC.
        limits: What is allowed.
        memory_mb: The function's memory, of which the models of a pipeline's nodes get a share.
    """

    uploads: Uploads
    artifacts: ObjectStore
    catalog: ImportCatalog
    now: Callable[[], str]
    limits: Limits = field(default_factory=Limits)
    memory_mb: int = 3008

    def __call__(self, upload: Upload) -> Imported:
        """Handle one finished write. What is wrong with the model is recorded as a failed run, not raised."""
        folder, _, file = upload.key.rpartition("/")
        if not upload.key.startswith(PREFIX) or not file:
            return Imported(Outcome("ignored", reason="not a file of a model"))
        suffix = f".{file.rpartition('.')[2].lower()}" if "." in file else ""
        if file not in (FILE, PIPELINE) and suffix not in (SUFFIX, *FOREIGN):
            return Imported(Outcome("ignored", reason="not a model; model.yaml may name it"))
        model = folder.removeprefix(PREFIX).partition("/")[0] if "/" in folder else ""
        run_id = run_of(upload.key, upload.version)
        bring = self._import_pipeline if file == PIPELINE else self._import
        try:
            return bring(upload, check_name(model, "model"), run_id)
        except NotFound as error:
            if self._is_there(upload):
                return self._refuse(run_id, model, upload, error)
            return Imported(Outcome("ignored", reason="the object is gone: a later event tells what replaced it"))
        except ShoalError as error:
            if error.retryable:
                raise
            return self._refuse(run_id, model, upload, error)

    def _import(self, upload: Upload, model: str, run_id: str) -> Imported:
        file = self._file(upload, model)
        if file is None:
            return Imported(Outcome("waiting", reason=f"no {SUFFIX} file beside {FILE} yet"), model)
        if not self._begins(upload, model, run_id):
            return Imported(Outcome("unchanged", run_id), model)
        if file.source.size > self.limits.model_bytes:  # before it is read
            raise TooLarge(
                f"The model has {file.source.size:,} bytes; {self.limits.model_bytes:,} are allowed.",
                "Serve a smaller model.",
            )
        data = self.uploads.read(file.source.key, file.source.version)
        if file.description.backbone:
            return Imported(Outcome("started", run_id), model, self._bring_backbone(file, data, run_id, upload.order))
        wrapped, verified = self._verified(data, file.description)
        version = self._register(file, data, wrapped, verified, run_id, upload.order)
        return Imported(Outcome("started", run_id), model, version)

    def _bring_backbone(self, file: _File, data: bytes, run_id: str, order: str) -> ModelVersion:
        from shoal_core.importing.backbones import prepare_backbone  # hardly any import is of a backbone

        verified = verify_model(data, file.description.sample, self.limits, file.description.hints)
        prepared = prepare_backbone(data, verified, file.description)
        served = verify_model(prepared.model, None, self.limits)
        signature = verified.model_copy(update={"inputs": served.inputs, "outputs": served.outputs})
        wrapped = Wrapped(prepared.model, tensors_spec(), prepared.chosen)
        return self._register(file, data, wrapped, signature, run_id, order, prepared)

    def _import_pipeline(self, upload: Upload, model: str, run_id: str) -> Imported:
        # Here, since hardly any import is of a pipeline, and its nodes need Pillow.
        from shoal_core.importing.piping import pipeline_version, prepare_pipeline, write_pipeline

        source = self.uploads.describe(upload.key, upload.version)
        if not self._begins(upload, model, run_id):
            return Imported(Outcome("unchanged", run_id), model)
        folder = upload.key.rpartition("/")[0] + "/"
        data = self._small(source, MAX_CONFIG_BYTES)
        models = ModelCache(self.artifacts, self.catalog, self.memory_mb)
        piped = prepare_pipeline(data, lambda name: self._named(folder + name), models)
        content = hashlib.sha256(piped.document).hexdigest()[:ID_LENGTH]
        number = self.catalog.reserve_version(model, f"pipeline-{content}")
        write_pipeline(self.artifacts, ModelKeys(model, number), piped)
        told = {"key": source.key, "version": source.version, "bytes": source.size}
        version = pipeline_version(number, piped, run_id, self.now(), told)
        decide = imported_waits(piped.pipeline.production)
        return Imported(
            Outcome("started", run_id), model, self.catalog.publish_version(model, version, decide, upload.order)
        )

    def _begins(self, upload: Upload, model: str, run_id: str) -> bool:
        """Whether there is something to do for an upload. Raises `BadModel` when it was begun too often."""
        tries = self.catalog.begin_import(run_id, model, [upload.source])
        if tries > MAX_TRIES:
            raise BadModel(
                f"The import was begun {MAX_TRIES} times and never ended: it was stopped, or a service was away.",
                "Look into `shoal logs import_model`; upload the model again, or a smaller one.",
            )
        return bool(tries)

    def _file(self, upload: Upload, model: str) -> _File | None:
        """The file that an upload is about, with its description; None where model.yaml came first."""
        folder = upload.key.rpartition("/")[0] + "/"
        name = upload.key.removeprefix(folder)
        if name.lower().endswith(FOREIGN):
            raise BadModel(
                f"{name[:100]!r} isn't an ONNX file, and no other kind is loaded on the server.",
                f"Convert it where it was made: `shoal convert {name[:100]} -o m.onnx`, then `shoal import m.onnx`.",
            )
        if name != FILE:
            source = self.uploads.describe(upload.key, upload.version)
            return _File(model, source, self._description(folder))
        found = [file for file in self.uploads.versions(folder) if _is_model(file.key, folder)]
        if not found:
            return None
        newest = max(found, key=lambda file: (self.uploads.modified(file.key), file.key))
        return _File(model, newest, self._description(folder, upload.version))

    def _description(self, folder: str, version: str | None = None) -> ModelDescription:
        try:
            data = self._small(self.uploads.describe(folder + FILE, version), MAX_CONFIG_BYTES)
        except NotFound:
            return ModelDescription()
        return read_description(data, lambda name: self._named(folder + name))

    def _named(self, key: str) -> bytes:
        """A file of labels or of a vocabulary."""
        return self._small(self.uploads.describe(key), MAX_NAMED_BYTES)

    def _small(self, file: SourceFile, most: int) -> bytes:
        """The bytes of a file whose size was looked at first. Raises `TooLarge`."""
        if file.size > most:
            name = file.key.rpartition("/")[2]
            raise TooLarge(f"{name[:100]!r} has {file.size:,} bytes.", f"Keep it under {most:,} bytes.")
        return self.uploads.read(file.key, file.version)

    def _verified(self, data: bytes, description: ModelDescription) -> tuple[Wrapped, VerifiedModel]:
        """The model as it will be served, and what was found out about the uploaded file."""
        verified = verify_model(data, description.sample, self.limits, description.hints)
        wrapped = wrap_model(data, verified, description)
        if wrapped.model != data:
            # What was put around it runs where the model runs, so it is tried there first.
            verify_model(wrapped.model, None, self.limits)
        return wrapped, verified

    def _register(
        self,
        file: _File,
        data: bytes,
        wrapped: Wrapped,
        verified: VerifiedModel,
        run_id: str,
        order: str,
        prepared: PreparedBackbone | None = None,
    ) -> ModelVersion:
        """Files first under a number that only this content has, then the index."""
        spec = wrapped.spec.encode()
        identity = spec if prepared is None else prepared.named(file.model, 1).encode()
        content = hashlib.sha256(hashlib.sha256(wrapped.model).digest() + identity).hexdigest()[:ID_LENGTH]
        number = self.catalog.reserve_version(file.model, f"import-{content}")
        keys = ModelKeys(file.model, number)
        self.artifacts.write(keys.onnx, wrapped.model)
        self.artifacts.write(keys.spec, spec, "application/json")
        lineage = _lineage(file, verified, wrapped, run_id)
        if prepared is not None:
            backbone = prepared.named(file.model, number)
            self.artifacts.write(keys.backbone, backbone.encode(), "application/json")
            lineage["backbone"] = backbone.model_dump(mode="json", exclude={"schema_version", "text"})
        version = ModelVersion(
            version=number,
            run_id=run_id,
            dataset="",
            dataset_version="",
            task="tensors" if wrapped.spec.kind == "tensors" else wrapped.spec.target.task,
            metrics={},
            digest=hashlib.sha256(wrapped.model).hexdigest(),
            bytes=len(wrapped.model),
            created_at=self.now(),
            signature={
                "inputs": [tensor.model_dump(mode="json") for tensor in verified.inputs],
                "outputs": [tensor.model_dump(mode="json", exclude={"answers"}) for tensor in verified.outputs],
            },
            lineage=lineage,
        )
        decide = imported_waits(file.description.production)
        return self.catalog.publish_version(file.model, version, decide, order)

    def _is_there(self, upload: Upload) -> bool:
        try:
            self.uploads.modified(upload.key, upload.version)
        except NotFound:
            return False
        return True

    def _refuse(self, run_id: str, model: str, upload: Upload, error: ShoalError) -> Imported:
        # The name may be what is wrong: then the run tells of it, and no model does.
        shown = "" if isinstance(error, BadName) else model
        self.catalog.begin_import(run_id, shown, [upload.source])
        self.catalog.import_failed(run_id, shown, type(error).__name__, str(error))
        return Imported(Outcome("refused", run_id, str(error)), shown)


def run_of(key: str, version: str | None) -> str:
    """The id of the run that an uploaded object starts: of the object's version, so that its sender knows it."""
    identity = f"{key}\n{version}".encode()
    return f"import-{hashlib.sha256(identity).hexdigest()[:ID_LENGTH]}"


def imported_waits(production: bool) -> Decide:
    """What becomes of an imported version: there is no test split to compare it on, so it waits unless it is asked for.

    Args:
        production: Whether it shall serve at once.
    """

    def decide(standing: Standing) -> Mapping[str, Any]:
        early = too_early(standing)
        if early is not None:
            return early
        if production:
            return {"decision": SERVES, "reason": "it was imported with the wish to serve"}
        reason = f"version {standing.champion} serves, and nothing tells whether an imported one is better"
        return {"decision": WAITS, "reason": reason}

    return decide


def _is_model(key: str, folder: str) -> bool:
    name = key.removeprefix(folder)
    return "/" not in name and name.lower().endswith(SUFFIX)


def _lineage(file: _File, verified: VerifiedModel, wrapped: Wrapped, run_id: str) -> dict[str, Any]:
    """Where a version comes from: the upload, the file, and what its maker told of it."""
    facts = verified.model_dump(mode="json", include={"ir_version", "opsets", "producer", "operators", "parameters"})
    return {
        "upload": {"key": file.source.key, "version": file.source.version, "bytes": verified.bytes},
        "run": run_id,
        "file": {"sha256": verified.digest, **facts, "batch": verified.batch, "told": verified.metadata},
        "inferred": list(wrapped.inferred),
        "warnings": list(verified.warnings),
    }
