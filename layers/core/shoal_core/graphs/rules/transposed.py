"""Gradients of transposed convolution, in one, two or three dimensions.

A ConvTranspose from x to y is the adjoint of the Conv with the same weight from y's shape to x's. So its gradient by x
is that Conv of the gradient, and its gradient by the weight is that Conv's, with the two ends changed over.
"""

from __future__ import annotations

from collections.abc import Sequence

from shoal_core.graphs.rules.convolution import RULES as CONVOLUTION
from shoal_core.graphs.rules.rule import Gradient, Node, Rule, Step, spatial_sizes


def _conv_transpose(step: Step) -> Sequence[Gradient | None]:
    graph, weight = step.graph, step.node.inputs[1]
    adjoint = _adjoint(step)

    def of_x() -> str:
        gradient = graph.emit("Conv", step.gradient, weight, **adjoint.node.attributes)
        return graph.refine(gradient, graph.shape(step.x))

    def of_weight() -> str:
        gradient = CONVOLUTION["Conv"](adjoint)[1]
        if gradient is None:
            raise step.unsupported("has a weight without a gradient")
        return gradient()

    def of_bias() -> str:
        return graph.emit("ReduceSum", step.gradient, graph.integers(0, *range(2, graph.rank(step.y))), keepdims=0)

    return [of_x, of_weight, of_bias]


def _adjoint(step: Step) -> Step:
    """The Conv that this operator is the adjoint of: from this output's gradient to something shaped as this input."""
    weight = step.node.inputs[1]
    kernel = tuple(dim for dim in step.graph.shape(weight)[2:] if isinstance(dim, int))
    inputs, outputs = spatial_sizes(step, step.x), spatial_sizes(step, step.y)
    if len(kernel) != len(inputs):
        raise step.unsupported(f"has a kernel of unknown size {step.graph.shape(weight)}")
    ones = (1,) * len(inputs)
    strides, dilations = tuple(step.attribute("strides", ones)), tuple(step.attribute("dilations", ones))
    before = _pads_before(step, inputs, outputs, kernel, strides, dilations)
    # What the Conv has to add behind each axis so that its last window is the last one of this operator.
    after = [
        (size - 1) * stride + (width - 1) * dilation + 1 - output - pad
        for size, output, width, stride, dilation, pad in zip(
            inputs, outputs, kernel, strides, dilations, before, strict=True
        )
    ]
    # Negative: the output reaches further than any window. Less than a stride of that is a rest that Conv leaves out.
    if any(-stride >= pad for pad, stride in zip(after, strides, strict=True)):
        raise step.unsupported("pads its output by a stride or more")
    attributes = {
        "strides": list(strides),
        "dilations": list(dilations),
        "group": int(step.attribute("group", 1)),
        "pads": [*before, *(max(0, pad) for pad in after)],
    }
    node = Node("Conv", step.node.name, (step.gradient, weight), (step.x,), attributes)
    return Step(step.graph, node, (step.x,))


def _pads_before(
    step: Step,
    inputs: Sequence[int],
    outputs: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> list[int]:
    """What is cut off the front of each axis, as https://onnx.ai/onnx/operators/onnx__ConvTranspose.html has it."""
    auto_pad = step.attribute("auto_pad", "NOTSET")
    axes = len(inputs)
    told = step.attribute("output_shape") is not None
    if not told and auto_pad in ("NOTSET", "VALID"):
        return list(step.attribute("pads", (0,) * (2 * axes)))[:axes] if auto_pad == "NOTSET" else [0] * axes
    extra = step.attribute("output_padding", (0,) * axes)
    total = [
        max(0, (size - 1) * stride + (width - 1) * dilation + 1 + more - output)
        for size, output, width, stride, dilation, more in zip(
            inputs, outputs, kernel, strides, dilations, extra, strict=True
        )
    ]
    return [pad // 2 if auto_pad == "SAME_UPPER" else pad - pad // 2 for pad in total]


RULES: dict[str, Rule] = {"ConvTranspose": _conv_transpose}
