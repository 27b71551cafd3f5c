"""Models in memory, ready to answer: ONNX Runtime sessions with their preprocessing spec."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import onnxruntime as ort

from shoal_core.data.spec import PreprocessingSpec
from shoal_core.errors import NotFound
from shoal_core.keys import ModelKeys
from shoal_core.store import ObjectStore

# How long an answer to "which version is production?" may be used: a new version serves within seconds.
ALIAS_SECONDS = 2.0
# ONNX Runtime holds the weights about once more than the file; 1/3 of the function's memory keeps clear of its limit.
CACHE_SHARE = 1 / 3
MB_PER_VCPU = 1769


class AliasCatalog(Protocol):
    """What serving needs of the catalog."""

    def alias(self, model: str, alias: str = "production") -> int:
        """See `shoal_core.aws.catalog.Catalog.alias`."""


@dataclass(frozen=True)
class ServedModel:
    """One version of a model in memory."""

    name: str
    version: int
    spec: PreprocessingSpec
    session: ort.InferenceSession
    bytes: int


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


@dataclass
class ModelCache:
    """Sessions by (model, version), least recently used out, bounded in bytes of model files."""

    artifacts: ObjectStore
    catalog: AliasCatalog
    memory_mb: int
    clock: Callable[[], float] = time.monotonic
    _aliases: dict[str, tuple[float, int]] = field(default_factory=dict)
    _models: OrderedDict[tuple[str, int], ServedModel] = field(default_factory=OrderedDict)

    def production(self, name: str) -> ServedModel:
        """The version that serves now. Raises `NotFound` when there is no such model."""
        return self.version(name, self._alias(name))

    def _alias(self, name: str) -> int:
        known = self._aliases.get(name)
        if known is None or self.clock() - known[0] > ALIAS_SECONDS:
            known = (self.clock(), self.catalog.alias(name))
            self._aliases[name] = known
        return known[1]

    def version(self, name: str, version: int) -> ServedModel:
        """One version, whatever alias points at it. Raises `NotFound` when there is no such version."""
        key = (name, version)
        if key not in self._models:
            self._models[key] = self._load(name, version)
            self._evict()
        self._models.move_to_end(key)
        return self._models[key]

    def _load(self, name: str, version: int) -> ServedModel:
        keys = ModelKeys(name, version)
        try:
            model = self.artifacts.read(keys.onnx)
        except NotFound as error:
            raise NotFound(
                f"Model {name!r} has no version {version}.", f"See GET /models/{name} for those it has."
            ) from error
        spec = PreprocessingSpec.model_validate_json(self.artifacts.read(keys.spec))
        return ServedModel(name, version, spec, session_of(model, self.memory_mb), len(model))

    def _evict(self) -> None:
        """Let go of the least recently used until the rest fits; the newest always stays."""
        limit = self.memory_mb * 2**20 * CACHE_SHARE
        while len(self._models) > 1 and sum(model.bytes for model in self._models.values()) > limit:
            self._models.popitem(last=False)


def outputs(model: ServedModel, tensors: dict[str, Any]) -> Any:  # noqa: ANN401 - a numpy array
    """Run a batch: `probabilities` float32 [N, classes] or `value` float32 [N]."""
    return model.session.run(None, tensors)[0]
