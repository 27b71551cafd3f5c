"""Models in memory, ready to answer: ONNX Runtime sessions with their preprocessing spec."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

from shoal_core.data.spec import PreprocessingSpec
from shoal_core.errors import BadConfig, BadRequest, NotFound
from shoal_core.keys import ModelKeys
from shoal_core.registry.routing import Aliases, require
from shoal_core.serving.protocol import TensorInfo
from shoal_core.store import ObjectStore

if TYPE_CHECKING:
    from shoal_core.serving.pipelines.session import PipelineSession

# How long an answer to "which version is production?" may be used: a new version serves within seconds.
ALIAS_SECONDS = 2.0
# How long the version before may answer while the new one loads. Lambda freezes a function between requests, so a load
# beside them may take its time; after this, a request waits for it.
SWITCH_SECONDS = 2.0
# ONNX Runtime holds the weights about once more than the file; 1/3 of the function's memory keeps clear of its limit.
CACHE_SHARE = 1 / 3
MB_PER_VCPU = 1769
REFUSALS = (Fail, InvalidArgument, RuntimeException)
"""What ONNX Runtime raises for values that a model can't take, such as shapes that don't go together."""


class AliasCatalog(Protocol):
    """What serving needs of the catalog."""

    def aliases(self, model: str) -> Aliases:
        """See `shoal_core.aws.model_catalog.ModelCatalog.aliases`."""


@dataclass(frozen=True)
class ServedModel:
    """One version of a model in memory."""

    name: str
    version: int
    spec: PreprocessingSpec
    session: ort.InferenceSession | PipelineSession
    bytes: int

    @cached_property
    def tensors(self) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
        """Inputs and outputs, in order; ONNX Runtime describes them anew each time that it is asked."""
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        return tuple(map(TensorInfo.of, inputs)), tuple(map(TensorInfo.of, outputs))

    @cached_property
    def fixed_batch(self) -> int | None:
        """How many samples one run takes, of a model made elsewhere that takes no other number; None is any."""
        size = self.session.get_inputs()[0].shape[:1]
        return size[0] if size and isinstance(size[0], int) else None


def session_of(model: bytes, memory_mb: int) -> ort.InferenceSession:
    """A session with as many threads as the function has vCPUs.

    One vCPU per 1,769 MB: https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html. ONNX Runtime would
    take the machine's count, whatever share of it the function may use.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = max(1, round(memory_mb / MB_PER_VCPU))
    options.inter_op_num_threads = 1
    # A spinning thread burns CPU that the next request, or another function on the laptop, could use.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@dataclass(frozen=True)
class Choice:
    """Which version answers a request.

    Attributes:
        version: It.
        production: The version in production at this moment.
        canary: Whether it is a canary, whose failures production makes good.
        shadow: A version that is asked, too, and whose answer isn't returned.
    """

    version: int
    production: int
    canary: bool = False
    shadow: int | None = None


@dataclass
class ModelCache:
    """Sessions by (model, version), least recently used out, bounded in bytes of model files."""

    artifacts: ObjectStore
    catalog: AliasCatalog
    memory_mb: int
    clock: Callable[[], float] = time.monotonic
    _aliases: dict[str, tuple[float, Aliases]] = field(default_factory=dict)
    _models: OrderedDict[tuple[str, int], ServedModel] = field(default_factory=OrderedDict)
    _served: dict[str, int] = field(default_factory=dict)
    _loads: dict[tuple[str, int], tuple[float, Future[ServedModel]]] = field(default_factory=dict)
    _loader: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "load"))

    def aliases(self, name: str) -> Aliases:
        """A model's aliases, at most seconds old. Raises `NotFound` when there is no such model."""
        known = self._aliases.get(name)
        age = self.clock() - known[0] if known else math.inf
        if known is None or age > ALIAS_SECONDS:
            known = (self.clock(), self.catalog.aliases(name))
            self._aliases[name] = known
            if age > ALIAS_SECONDS + SWITCH_SECONDS:
                # After a rest nobody knows how long ago the switch was: the version before has had its time.
                self._served.pop(name, None)
        return known[1]

    def forget_aliases(self) -> None:
        """Ask for aliases anew; models stay."""
        self._aliases.clear()

    def production(self, name: str) -> ServedModel:
        """The version that serves now; for a moment the one before, while that loads. Raises `NotFound`."""
        wanted = self.aliases(name).production
        before = self._served.get(name, wanted)
        if before != wanted and (name, before) in self._models and not self.is_loaded(name, wanted):
            return self.version(name, before)
        model = self.version(name, wanted)
        self._served[name] = wanted
        return model

    def choose(self, name: str, key: str) -> Choice:
        """Which version answers a request with this key; a canary takes part once it is loaded. Raises `NotFound`."""
        aliases = self.aliases(name)
        version, shadow = aliases.choose(name, key), aliases.shadowed(name, key)
        canary = aliases.canary is not None and version == aliases.canary.version
        if canary and not self.is_loaded(name, version):
            version, canary = aliases.production, False
        return Choice(version, aliases.production, canary, shadow)

    def is_loaded(self, name: str, version: int) -> bool:
        """Whether a version can answer without waiting; if not, it is loaded beside the requests.

        Once that takes too long, it counts as loaded, so that the next request waits for it (or meets its error).
        """
        key = (name, version)
        if key in self._models:
            return True
        if key not in self._loads:
            self._loads[key] = (self.clock(), self._loader.submit(self._load, name, version))
        started, load = self._loads[key]
        return load.done() or self.clock() - started > SWITCH_SECONDS

    def version(self, name: str, version: int) -> ServedModel:
        """One version, whatever alias points at it. Raises `NotFound` when there is no such version."""
        key = (name, version)
        if key not in self._models:
            _, load = self._loads.pop(key, (0.0, None))
            # One that hasn't begun is done here: it may stand behind others, or behind the very one that asks for it.
            waits = load is not None and not load.cancel()
            self._models[key] = load.result() if load is not None and waits else self._load(name, version)
            self._evict()
        self._models.move_to_end(key)
        return self._models[key]

    def _load(self, name: str, version: int) -> ServedModel:
        keys = ModelKeys(name, version)
        try:
            model = self.artifacts.read(keys.onnx)
        except NotFound:
            return self._load_pipeline(keys)
        spec = PreprocessingSpec.model_validate_json(self.artifacts.read(keys.spec))
        return ServedModel(name, version, spec, session_of(model, self.memory_mb), len(model))

    def _load_pipeline(self, keys: ModelKeys) -> ServedModel:
        # Here, since hardly any model is a pipeline, and its classes take time to build at every cold start.
        from shoal_core.serving.pipelines.definition import decode_pipeline
        from shoal_core.serving.pipelines.session import PipelineSession

        try:
            data = self.artifacts.read(keys.pipeline)
        except NotFound as error:
            fix = f"See GET /models/{keys.model} for those it has."
            raise NotFound(f"Model {keys.model!r} has no version {keys.version}.", fix) from error
        spec = PreprocessingSpec.model_validate_json(self.artifacts.read(keys.spec))
        session = PipelineSession(decode_pipeline(data), self.node, spec.target)
        return ServedModel(keys.model, keys.version, spec, session, len(data))

    def node(self, name: str, version: int | str) -> ServedModel:
        """The model of a pipeline's node: a version by its number, or the one that an alias points at now.

        Raises:
            NotFound: No such version or alias.
            BadConfig: It is a pipeline itself.
        """
        number = version if isinstance(version, int) else require(self.aliases(name), name, version)
        found = self.version(name, number)
        if not isinstance(found.session, ort.InferenceSession):
            raise BadConfig(f"Model {name!r} is a pipeline itself.", "Write its nodes into this one.")
        return found

    def _evict(self) -> None:
        """Let go of the least recently used until the rest fits; the newest always stays."""
        limit = self.memory_mb * 2**20 * CACHE_SHARE
        while len(self._models) > 1 and sum(model.bytes for model in self._models.values()) > limit:
            self._models.popitem(last=False)


def outputs(model: ServedModel, tensors: dict[str, Any], name: str | None = None) -> Any:  # noqa: ANN401 - an array
    """Run a batch: `probabilities` float32 [N, classes], `value` float32 [N], or the output of that name; of anomalies
    `score` and `anomalous` (0 or 1) side by side, float32 [N, 2].

    Raises:
        BadRequest: A model made elsewhere can't take these values, such as an index beyond its table.
    """
    try:
        if model.spec.target.task == "anomaly" and name is None:
            scores, called = model.session.run(None, tensors)
            return np.stack([scores, called.astype(scores.dtype)], axis=1)
        return _run(model, tensors, name)
    except REFUSALS as error:
        raise refusal(model, error) from error


def refusal(model: ServedModel, error: Exception) -> BadRequest:
    """What to tell of one of `REFUSALS`."""
    told = " ".join(str(error).split())[:400]
    return BadRequest(f"Model {model.name!r} can't answer: {told}.", "Send values that the model knows.")


def _run(model: ServedModel, tensors: dict[str, Any], name: str | None) -> Any:  # noqa: ANN401 - an array
    size = model.fixed_batch
    names = None if name is None else [name]
    if size is None:
        return model.session.run(names, tensors)[0]
    samples = len(next(iter(tensors.values())))
    rows = np.minimum(np.arange(-(-samples // size) * size), samples - 1).reshape(-1, size)
    parts = [model.session.run(names, {key: array[part] for key, array in tensors.items()})[0] for part in rows]
    return np.concatenate(parts)[:samples]
