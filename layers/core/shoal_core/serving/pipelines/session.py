"""A pipeline that answers like a model: inputs, outputs and `run`, as ONNX Runtime's sessions have them.

So whatever serves a model (people's requests, tensors, batches, streams, shadows) serves a pipeline, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.spec import PreprocessingSpec, TargetSpec
from shoal_core.errors import BadConfig, NotFound, ShoalError
from shoal_core.serving.pipelines import nodes
from shoal_core.serving.pipelines.definition import (
    FILE,
    INPUT,
    CropNode,
    ModelNode,
    Node,
    NormalizeNode,
    PiecesNode,
    Pipeline,
    PoolNode,
    ResizeNode,
)
from shoal_core.serving.protocol import TensorInfo, dtype_of

if TYPE_CHECKING:
    from shoal_core.serving.sessions import ServedModel

VECTOR = "vector"
_BATCH = "batch"


@dataclass(frozen=True)
class Port:
    """A tensor that goes in or out; `type` and `shape` as ONNX Runtime tells them."""

    name: str
    type: str
    shape: list[int | str]


@dataclass(frozen=True)
class PipelineSession:
    """Runs a pipeline's nodes.

    Attributes:
        pipeline: The graph.
        resolve: Gives the model of a node, by name and version (a number or an alias).
        target: What the answer means, where that is settled: of a version that is listed.
    """

    pipeline: Pipeline
    resolve: Callable[[str, int | str], ServedModel]
    target: TargetSpec | None = None

    def get_inputs(self) -> list[Port]:
        """The one tensor that goes in."""
        shapes = self.spec().tensor_shapes()
        types = {"image": "tensor(uint8)", "tokens": "tensor(int32)"}
        return [Port(name, types[name], [_BATCH, *shape]) for name, shape in shapes.items()]

    def get_outputs(self) -> list[Port]:
        """What the node that answers gives."""
        node = self.pipeline.nodes[self.pipeline.output]
        if isinstance(node, ModelNode):
            name = node.output
            found = [port for port in self.model(node).session.get_outputs() if name in (None, port.name)]
            return [Port(port.name, port.type, list(port.shape)) for port in found[:1]]
        return [Port(VECTOR, "tensor(float)", [_BATCH, "width"])]

    def run(self, names: Sequence[str] | None, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run all nodes on a batch.

        Args:
            names: Outputs that are wanted; there is one.
            feeds: The tensor that goes in, by its name.

        Raises:
            NotFound: A node's model or version isn't there any more.
            BadConfig: A node can't take what it is given; names the node.
        """
        known: dict[str, Any] = {INPUT: next(iter(feeds.values()))}
        for name, node in self.pipeline.nodes.items():
            try:
                known[name] = self._output(node, known)
            except ShoalError as error:
                raise type(error)(f"Node {name!r} of the pipeline: {error.reason}", error.fix) from error
            except Exception as error:  # what ONNX Runtime, numpy and Pillow raise for arrays that don't fit
                raise BadConfig(f"Node {name!r} of the pipeline can't take what it is given: {error}.") from error
        return [known[self.pipeline.output]] * max(1, len(names or ()))

    def spec(self) -> PreprocessingSpec:
        """How what people send becomes the tensor that goes in, and what the answer means."""
        node = self.pipeline.nodes[self.pipeline.output]
        target = self.model(node).spec.target if isinstance(node, ModelNode) else TargetSpec(task="regression")
        return self.pipeline.spec(target)

    def model(self, node: ModelNode) -> ServedModel:
        """The model of a node. Raises `NotFound`."""
        if node.version is None:
            raise NotFound(f"Model {node.model!r} of the pipeline has no version.", f"Name one in {FILE}.")
        return self.resolve(node.model, node.version)

    def _output(self, node: Node, known: Mapping[str, Any]) -> Any:  # noqa: ANN401 - an array, or pieces by name
        def of(reference: str) -> Any:  # noqa: ANN401
            name, _, part = reference.partition(".")
            return known[name][part] if part else known[name]

        if isinstance(node, ModelNode):
            return self._answer(node, of)
        if isinstance(node, ResizeNode):
            return nodes.resize(of(node.resize), node.size, node.color)
        if isinstance(node, NormalizeNode):
            return nodes.normalize(of(node.normalize), node.range, node.mean, node.std)
        if isinstance(node, CropNode):
            options: dict[str, Any] = node.model_dump(include={"threshold", "margin", "square", "color"})
            return nodes.crop(of(node.crop), of(node.mask), node.size, **options)
        if isinstance(node, PiecesNode):
            return nodes.pieces(of(node.pieces), node.padding)
        if isinstance(node, PoolNode):
            return nodes.pool(of(node.pool), of(node.mask) if node.mask else None, node.method, node.unit)
        raise TypeError(type(node).__name__)

    def _answer(self, node: ModelNode, of: Callable[[str], Any]) -> NDArray[Any]:
        from shoal_core.serving.sessions import outputs

        model = self.model(node)
        if self.target is not None and node is self.pipeline.nodes[self.pipeline.output]:
            _require_target(model, self.target)
        inputs = [TensorInfo.of(port) for port in model.session.get_inputs()]
        given = {inputs[0].name: node.inputs} if isinstance(node.inputs, str) else node.inputs
        missing = sorted({tensor.name for tensor in inputs} ^ set(given))
        if missing:
            raise BadConfig(f"Model {node.model!r} takes {', '.join(tensor.name for tensor in inputs)}.")
        feeds = {tensor.name: np.asarray(of(given[tensor.name]), dtype_of(tensor.datatype)) for tensor in inputs}
        answer: NDArray[Any] = outputs(model, feeds, node.output)
        return answer


def _require_target(model: ServedModel, target: TargetSpec) -> None:
    """Whether the model that an alias points at now still means by its answer what the pipeline's version says."""
    now = model.spec.target
    if (now.task, now.classes) != (target.task, target.classes):
        raise BadConfig(
            f"Version {model.version} of model {model.name!r} has other classes than when the pipeline was imported.",
            "Import the pipeline again.",
        )
