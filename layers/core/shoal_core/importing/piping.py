"""From `pipeline.yaml` to a version that serves: its nodes are looked up, pinned, and run once before it is listed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from shoal_core.data.spec import PreprocessingSpec
from shoal_core.errors import BadConfig
from shoal_core.keys import ModelKeys
from shoal_core.registry.records import ModelVersion
from shoal_core.serving.pipelines.definition import FILE, ModelNode, Pipeline, read_pipeline
from shoal_core.serving.pipelines.session import PipelineSession
from shoal_core.serving.protocol import TensorInfo, dtype_of
from shoal_core.serving.sessions import ModelCache
from shoal_core.store import ObjectStore

TRIAL_SAMPLES = 2


@dataclass(frozen=True)
class Piped:
    """A pipeline that has run.

    Attributes:
        pipeline: With pinned versions.
        spec: How what people send becomes the tensor that goes in.
        nodes: Node -> the model, version and digest of those that are models.
        signature: The tensors that go in and out.
    """

    pipeline: Pipeline
    spec: PreprocessingSpec
    nodes: Mapping[str, Mapping[str, Any]]
    signature: Mapping[str, Any]

    @property
    def document(self) -> bytes:
        """The bytes of `pipeline.json`."""
        return self.pipeline.encode()


def prepare_pipeline(data: bytes, read_file: Callable[[str], bytes], models: ModelCache) -> Piped:
    """Read a pipeline, pin the versions that it leaves open, and run it on samples of zeros.

    Args:
        data: `pipeline.yaml`.
        read_file: Gives the bytes of a file beside it by its name.
        models: The models that its nodes may be.

    Raises:
        BadConfig: A field is wrong, or a node can't take what it is given.
        NotFound: A model, a version or a file isn't there.
    """
    pipeline = _pinned(read_pipeline(data, read_file), models)
    session = PipelineSession(pipeline, models.node)
    spec = session.spec()
    inputs, outputs = (
        [TensorInfo.of(port) for port in ports] for ports in (session.get_inputs(), session.get_outputs())
    )
    shape = [TRIAL_SAMPLES, *inputs[0].shape[1:]]
    (answer,) = session.run(None, {inputs[0].name: np.zeros(shape, dtype_of(inputs[0].datatype))})
    _require_answers(answer, spec, pipeline)
    return Piped(
        pipeline,
        spec,
        _nodes(pipeline, session),
        {
            "inputs": [_described(tensor) for tensor in inputs],
            "outputs": [{**_described(tensor), "shape": [-1, *answer.shape[1:]]} for tensor in outputs],
        },
    )


def write_pipeline(artifacts: ObjectStore, keys: ModelKeys, piped: Piped) -> None:
    """Write the files of a version."""
    artifacts.write(keys.pipeline, piped.document, "application/json")
    artifacts.write(keys.spec, piped.spec.encode(), "application/json")


def pipeline_version(number: int, piped: Piped, run_id: str, moment: str, upload: Mapping[str, Any]) -> ModelVersion:
    """The version that a pipeline is listed as."""
    return ModelVersion(
        version=number,
        run_id=run_id,
        dataset="",
        dataset_version="",
        task=piped.spec.target.task,
        metrics={},
        digest=hashlib.sha256(piped.document).hexdigest(),
        bytes=len(piped.document),
        created_at=moment,
        signature=dict(piped.signature),
        lineage={
            "upload": dict(upload),
            "run": run_id,
            "pipeline": {name: dict(node) for name, node in piped.nodes.items()},
        },
    )


def _pinned(pipeline: Pipeline, models: ModelCache) -> Pipeline:
    """The pipeline with a number where no version was named: that of the version in production now."""
    nodes = {
        name: node.model_copy(update={"version": models.aliases(node.model).production})
        if isinstance(node, ModelNode) and node.version is None
        else node
        for name, node in pipeline.nodes.items()
    }
    return pipeline.model_copy(update={"nodes": nodes})


def _nodes(pipeline: Pipeline, session: PipelineSession) -> dict[str, dict[str, Any]]:
    return {
        name: {"model": node.model, "version": session.model(node).version, "follows": _alias(node)}
        for name, node in pipeline.nodes.items()
        if isinstance(node, ModelNode)
    }


def _alias(node: ModelNode) -> str | None:
    return node.version if isinstance(node.version, str) else None


def _described(tensor: TensorInfo) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}


def _require_answers(answer: Any, spec: PreprocessingSpec, pipeline: Pipeline) -> None:  # noqa: ANN401 - an array
    """One answer per sample, of as many numbers as there are classes."""
    if answer.shape[:1] != (TRIAL_SAMPLES,):
        raise BadConfig(
            f"{FILE}: node {pipeline.output!r} answers {list(answer.shape)} for {TRIAL_SAMPLES} samples.",
            "Let a node answer that gives one answer per sample.",
        )
    if spec.target.task == "anomaly":
        raise BadConfig(
            f"{FILE}: node {pipeline.output!r} finds anomalies, which a pipeline can't answer with.",
            "Let another node answer, and ask that model itself.",
        )
    classes = len(spec.target.classes)
    if spec.target.task != "regression" and answer.shape != (TRIAL_SAMPLES, classes):
        raise BadConfig(
            f"{FILE}: node {pipeline.output!r} has {classes} classes and answers {list(answer.shape[1:])} numbers.",
            "Let it answer with its probabilities.",
        )
