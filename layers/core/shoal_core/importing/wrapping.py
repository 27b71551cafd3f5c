"""A described model becomes one of Shoal's own kind: raw tensors in, probabilities or values out, all in one graph.

What turns an image's pixels, a row's cells or a text's tokens into the foreign model's numbers goes into the graph in
front of it, and what makes probabilities of its answer behind it. So the version is served, in batches and on streams
too, by the same preprocessing spec and code as a model that was trained here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, compose, helper, numpy_helper

from shoal_core.data.config_types import Task
from shoal_core.data.spec import (
    CategoryColumn,
    ImageInput,
    NumberColumn,
    PreprocessingSpec,
    TableInput,
    TargetSpec,
    TextColumn,
)
from shoal_core.errors import BadConfig, BadModel
from shoal_core.importing.describing import ImageDescription, ModelDescription, TextDescription
from shoal_core.importing.verifying import Output, Tensor, VerifiedModel

PREFIX = "model."
"""Put before every name of the foreign graph, so that none can be one of ours."""
_ELEMENT: Mapping[str, int] = {
    "UINT8": TensorProto.UINT8,
    "INT8": TensorProto.INT8,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
}


@dataclass(frozen=True)
class Wrapped:
    """A model with its spec, and what wasn't asked for but chosen."""

    model: bytes
    spec: PreprocessingSpec
    inferred: tuple[str, ...] = ()


def tensors_spec() -> PreprocessingSpec:
    """The spec of a model that nobody described."""
    return PreprocessingSpec(kind="tensors", target=TargetSpec(task="regression"))


def wrap_model(model: bytes, verified: VerifiedModel, description: ModelDescription) -> Wrapped:
    """Put what a description says around a verified model.

    Args:
        model: The file that was verified.
        verified: What was found out about it.
        description: What its input and output mean.

    Returns:
        The model whose inputs are the spec's tensors, and whose one output is `probabilities` float32 [N, classes] or
        `value` float32 [N]; unchanged with a spec of kind `tensors` where the input isn't described.

    Raises:
        BadConfig: The description doesn't fit the model; names both sides.
    """
    if description.takes_tensors:
        return Wrapped(model, tensors_spec())
    return Wrapping(compose.add_prefix(onnx.load_model_from_string(model), PREFIX), verified, description).wrapped()


@dataclass
class Wrapping:
    """What is put around one foreign graph, whose names have the prefix `PREFIX`."""

    model: ModelProto
    verified: VerifiedModel
    description: ModelDescription
    before: list[onnx.NodeProto] = field(default_factory=list)
    behind: list[onnx.NodeProto] = field(default_factory=list)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    inferred: list[str] = field(default_factory=list)

    def wrapped(self) -> Wrapped:
        """The model with what stands before and behind it."""
        spec = self.described_input()
        target, answer = self._target()
        self.assemble([answer])
        data = bytes(self.model.SerializeToString(deterministic=True))
        return Wrapped(data, PreprocessingSpec(**spec, target=target), tuple(self.inferred))

    def described_input(self) -> dict[str, Any]:
        """Put what a description says of the input before the graph; the fields of the spec."""
        wanted = self.description
        if wanted.image is not None:
            return {"kind": "image", "image": self._image(wanted.image)}
        if wanted.text is not None:
            return {"kind": "table", "table": self._text(wanted.text)}
        return {"kind": "table", "table": self._table(wanted.columns or ())}

    def assemble(self, answers: Sequence[onnx.ValueInfoProto]) -> None:
        """Make one graph of what was put together, with these outputs."""
        graph = self.model.graph
        nodes = [*self.before, *graph.node, *self.behind]
        initializers = {tensor.name for tensor in graph.initializer}
        kept = [value for value in graph.input if value.name in initializers]
        del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
        graph.node.extend(nodes)
        graph.input.extend([*self.inputs, *kept])
        graph.output.extend(answers)

    # What comes in

    def _image(self, wanted: ImageDescription) -> ImageInput:
        tensor = self._only_input("an image")
        height, width = wanted.size
        channels: Literal[1, 3] = 1 if wanted.color == "grey" else 3
        layout = wanted.layout or self._layout(tensor, channels)
        shape = [channels, height, width] if layout == "channels_first" else [height, width, channels]
        self._check_shape(tensor, shape)
        self._declare("image", TensorProto.UINT8, [channels, height, width])
        name = self._add("Cast", ["image"], to=TensorProto.FLOAT)
        if wanted.color == "bgr":
            name = self._add("Gather", [name, self._constant(np.array([2, 1, 0]))], axis=1)
        low, high = wanted.range
        std = np.array(wanted.std, np.float64).reshape(-1, 1, 1)
        scale = (high - low) / 255 / std
        offset = (low - np.array(wanted.mean, np.float64).reshape(-1, 1, 1)) / std
        if not np.allclose(scale, 1, rtol=1e-9):
            name = self._add("Mul", [name, self._constant(scale.astype(np.float32))])
        if offset.any():
            name = self._add("Add", [name, self._constant(offset.astype(np.float32))])
        if layout == "channels_last":
            name = self._add("Transpose", [name], perm=[0, 2, 3, 1])
        self._feed(tensor, name, TensorProto.FLOAT)
        return ImageInput(height=height, width=width, channels=channels, fit=wanted.fit, crop=wanted.crop)

    def _layout(self, tensor: Tensor, channels: int) -> str:
        if len(tensor.shape) != 4:
            raise BadConfig(
                f"model.yaml describes an image, and input {tensor.name!r} has shape {list(tensor.shape)}.",
                "An image's tensor has four dimensions; describe the input as it is.",
            )
        last = tensor.shape[3] == channels and tensor.shape[1] != channels
        layout = "channels_last" if last else "channels_first"
        self.inferred.append(f"image.layout: {layout}")
        return layout

    def _text(self, wanted: TextDescription) -> TableInput:
        tensor, masks, types = self._text_inputs()
        length = wanted.length or (tensor.shape[1] if len(tensor.shape) == 2 else -1)
        if length < 1:
            raise BadConfig(f"The model doesn't tell how many ids input {tensor.name!r} has.", "Set text.length.")
        words = tuple(wanted.vocabulary)
        missing = {"[CLS]", "[SEP]", "[UNK]"} - set(words) if wanted.unit == "wordpiece" else set()
        if missing:
            raise BadConfig(f"The vocabulary of word pieces has no {sorted(missing)[0]}.", "Use the encoder's own.")
        self._declare("tokens", TensorProto.INT32, [length])
        for each in (tensor, *masks, *types):
            self._check_shape(each, [length])
        ids = self._add("Gather", [self._constant(np.array(wanted.ids, np.int64)), "tokens"], axis=0)
        self._feed(tensor, ids, TensorProto.INT64)
        for mask in masks:  # 1 where there is a token
            padding = self._add("Equal", ["tokens", self._constant(np.array(0, np.int32))])
            there = self._add("Cast", [self._add("Not", [padding])], to=TensorProto.INT64)
            self._feed(mask, there, TensorProto.INT64)
        for kind in types:  # all of it is the first sentence
            self._feed(kind, self._add("Sub", [ids, ids]), TensorProto.INT64)
        column = TextColumn(
            name=wanted.column, length=length, unit=wanted.unit, lowercase=wanted.lowercase, vocabulary=words
        )
        return TableInput(texts=(column,))

    def _text_inputs(self) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """The input of ids, those that mask padding, and those that tell sentences apart, as encoders have them."""
        if len(self.verified.inputs) == 1:
            return self.verified.inputs[0], [], []
        masks = [tensor for tensor in self.verified.inputs if "mask" in tensor.name]
        types = [tensor for tensor in self.verified.inputs if "type" in tensor.name and tensor not in masks]
        ids = [tensor for tensor in self.verified.inputs if tensor not in masks and tensor not in types]
        return (ids[0] if len(ids) == 1 else self._only_input("a text")), masks, types

    def _table(self, columns: Sequence[str]) -> TableInput:
        texts = self.description.categories
        numbers = [name for name in columns if name not in texts]
        if numbers:
            self._declare("numbers", TensorProto.FLOAT, [len(numbers)])
        if texts:
            self._declare("categories", TensorProto.INT64, [len(texts)])
        filled = self._filled(numbers) if numbers else ""
        if len(self.verified.inputs) == 1 and not texts:
            tensor = self.verified.inputs[0]
            self._check_shape(tensor, [len(numbers)])
            self._feed(tensor, filled, TensorProto.FLOAT)
        else:
            self._columns_by_name(columns, numbers, filled)
        ordered = [name for name in columns if name in texts]
        return TableInput(
            numbers=tuple(NumberColumn(name=name) for name in numbers),
            categories=tuple(CategoryColumn(name=name, categories=texts[name]) for name in ordered),
        )

    def _filled(self, numbers: Sequence[str]) -> str:
        fill = self.description.fill
        if not fill:
            return "numbers"
        if self.verified.opsets.get("ai.onnx", 0) < 9:
            raise BadConfig("`fill` needs operator set 9, and the model has an older one.", "Leave `fill` out.")
        values = np.array([[fill.get(name, np.nan) for name in numbers]], np.float32)
        missing = self._add("IsNaN", ["numbers"])
        return self._add("Where", [missing, self._constant(values), "numbers"])

    def _columns_by_name(self, columns: Sequence[str], numbers: Sequence[str], filled: str) -> None:
        """A model with one input [N, 1] per column, as scikit-learn's pipelines have."""
        tensors = {tensor.name: tensor for tensor in self.verified.inputs}
        if set(tensors) != set(columns):
            raise BadConfig(
                f"columns are {', '.join(columns)[:300]}, and the model's inputs {', '.join(tensors)[:300]}.",
                "Name one column per input, by the inputs' names.",
            )
        texts = [name for name in columns if name in self.description.categories]
        for name in columns:
            is_text = name in self.description.categories
            source, index = ("categories", texts.index(name)) if is_text else (filled, numbers.index(name))
            cell = self._add("Gather", [source, self._constant(np.array([index]))], axis=1)
            if is_text:
                if tensors[name].datatype != "BYTES":
                    raise BadConfig(f"Column {name!r} holds texts, and its input numbers.", "Leave its categories out.")
                words = np.array(["", *self.description.categories[name]], object)
                cell = self._add("Gather", [self._constant(words), cell], axis=0)
                self.before.append(helper.make_node("Identity", [cell], [PREFIX + name]))
            else:
                self._feed(tensors[name], cell, TensorProto.FLOAT)

    def _only_input(self, what: str) -> Tensor:
        if len(self.verified.inputs) != 1:
            names = ", ".join(tensor.name for tensor in self.verified.inputs)
            raise BadConfig(f"model.yaml describes {what}, and the model has the inputs {names[:300]}.", _TENSORS)
        return self.verified.inputs[0]

    def _check_shape(self, tensor: Tensor, shape: Sequence[int]) -> None:
        """Whether a tensor takes samples of a shape."""
        own = tensor.shape[1:]
        if len(tensor.shape) != len(shape) + 1 or any(a not in (-1, b) for a, b in zip(own, shape, strict=True)):
            raise BadConfig(
                f"model.yaml gives a sample of shape {list(shape)}, and input {tensor.name!r} takes {list(own)}.",
                "Describe the input as the model has it.",
            )

    def _feed(self, tensor: Tensor, name: str, element: int) -> None:
        """Give a tensor of ours to the foreign model's input, as its own type."""
        wanted = _ELEMENT.get(tensor.datatype)
        if wanted is None:
            raise BadConfig(f"Input {tensor.name!r} is {tensor.datatype}, which can't be described.", _TENSORS)
        target = [PREFIX + tensor.name]
        same = wanted == element
        node = (
            helper.make_node("Identity", [name], target)
            if same
            else helper.make_node("Cast", [name], target, to=wanted)
        )
        self.before.append(node)

    # What goes out

    def _target(self) -> tuple[TargetSpec, onnx.ValueInfoProto]:
        labels = tuple(self.description.labels or ())
        output, width = self._output(len(labels))
        task = self.description.task or self._task(width, labels)
        name = PREFIX + output.name
        if output.datatype != "FP32":
            name = self._add_behind("Cast", [name], to=TensorProto.FLOAT)
        if task == "regression":
            if width != 1:
                raise BadConfig(f"Output {output.name!r} has {width} numbers per sample.", "A regression has one.")
            self._name_answer("Reshape", [name, self._constant(np.array([-1]))], "value")
            return TargetSpec(task=task), helper.make_tensor_value_info("value", TensorProto.FLOAT, [self._batch])
        name = self._add_behind("Reshape", [name, self._constant(np.array([0, -1]))])
        name = self._activated(name, output, width, task)
        if width == 1 and len(labels) != 1 and task == "classification":
            name, width = self._both(name), 2
        classes = labels or tuple(str(index) for index in range(width))
        if len(classes) != width:
            raise BadConfig(
                f"There are {len(classes):,} labels, and output {output.name!r} has {width:,} numbers per sample.",
                "Name every class once, in the order of the model's output.",
            )
        if len(set(classes)) != len(classes):
            twice = next(label for label in classes if classes.count(label) > 1)
            raise BadConfig(f"The label {twice[:100]!r} is there twice.", "Give every class a name of its own.")
        self._name_answer("Identity", [name], "probabilities")
        shape = [self._batch, width]
        return TargetSpec(task=task, classes=classes), helper.make_tensor_value_info(
            "probabilities", TensorProto.FLOAT, shape
        )

    def _output(self, labels: int) -> tuple[Output, int]:
        """The output that is answered, and how many numbers it has per sample."""
        wanted = self.description.output
        found = [(output, _width(output)) for output in self.verified.outputs if wanted in (None, output.name)]
        if wanted is not None and not found:
            names = ", ".join(output.name for output in self.verified.outputs)
            raise BadConfig(f"The model has no output {wanted!r}.", f"Its outputs are: {names[:300]}.")
        fitting = [pair for pair in found if pair[0].datatype in ("FP32", "FP64", "FP16") and pair[1] > 0]
        exact = [pair for pair in fitting if labels and pair[1] in (labels, 1 if labels == 2 else labels)]
        chosen = exact or fitting
        if not chosen:
            raise BadModel(
                "The model has no output with a fixed number of numbers per sample.",
                "Export it with one (a classifier with its probabilities), or leave the description of the input out.",
            )
        if len(self.verified.outputs) > 1 and wanted is None:
            self.inferred.append(f"output: {chosen[0][0].name}")
        return chosen[0]

    def _task(self, width: int, labels: Sequence[str]) -> Task:
        task: Task = "classification" if labels or width > 1 else "regression"
        self.inferred.append(f"task: {task}")
        return task

    def _activated(self, name: str, output: Output, width: int, task: Task) -> str:
        kind = self.description.activation
        if kind is None:
            several = width > 1 and task == "classification"
            done = output.answers == "probabilities" or (output.answers == "unit" and not several)
            kind = "none" if done else "softmax" if several else "sigmoid"
            self.inferred.append(f"activation: {kind}")
        if kind == "none":
            return name
        return self._add_behind(kind.title(), [name], **({"axis": 1} if kind == "softmax" else {}))

    def _both(self, name: str) -> str:
        """The probabilities of both classes, of the second one's."""
        other = self._add_behind("Sub", [self._constant(np.array([[1]], np.float32)), name])
        return self._add_behind("Concat", [other, name], axis=1)

    # Nodes

    @property
    def _batch(self) -> int | str:
        return "N" if self.verified.batch is None else self.verified.batch

    def _declare(self, name: str, element: int, shape: Sequence[int]) -> None:
        self.inputs.append(helper.make_tensor_value_info(name, element, [self._batch, *shape]))

    def _constant(self, value: NDArray[Any]) -> str:
        name = f"shoal.constant.{len(self.model.graph.initializer)}"
        if value.dtype == object:
            texts: Any = [str(text).encode() for text in value]
            tensor = helper.make_tensor(name, TensorProto.STRING, value.shape, texts)
        else:
            tensor = numpy_helper.from_array(np.ascontiguousarray(value), name)
        self.model.graph.initializer.append(tensor)
        if self.model.ir_version < 4:  # such files list every initialiser as an input, too
            self.model.graph.input.append(helper.make_tensor_value_info(name, tensor.data_type, value.shape))
        return name

    def _add(self, operator: str, inputs: Sequence[str], **attributes: Any) -> str:  # noqa: ANN401 - ONNX's values
        return _append(self.before, "before", operator, inputs, attributes)

    def _add_behind(self, operator: str, inputs: Sequence[str], **attributes: Any) -> str:  # noqa: ANN401
        return _append(self.behind, "behind", operator, inputs, attributes)

    def _name_answer(self, operator: str, inputs: Sequence[str], name: str) -> None:
        self.behind.append(helper.make_node(operator, inputs, [name]))


_TENSORS = "Leave the description out, and use POST /v2/models/NAME/infer with tensors."


def _append(
    nodes: list[onnx.NodeProto], place: str, operator: str, inputs: Sequence[str], attributes: dict[str, Any]
) -> str:
    name = f"shoal.{place}.{len(nodes)}"
    nodes.append(helper.make_node(operator, inputs, [name], **attributes))
    return name


def _width(output: Output) -> int:
    """Numbers per sample; 0 where they aren't told, or are more than a row of them."""
    sizes = [size for size in output.shape[1:] if size != 1]
    if not sizes:
        return 1
    return sizes[0] if len(sizes) == 1 and sizes[0] > 0 else 0
