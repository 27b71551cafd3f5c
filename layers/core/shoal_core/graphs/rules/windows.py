"""Sliding windows: the arithmetic that convolution and pooling share."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shoal_core.graphs.rules.rule import Step, spatial_sizes


@dataclass(frozen=True)
class Phase:
    """What every stride-th place of one axis of the input meets: elements of the kernel from `first` on, a stride
    apart, turned, sliding over the output's gradient with this padding.
    """

    first: int
    taps: int
    before: int
    after: int
    places: int


@dataclass(frozen=True)
class Window:
    """How windows lie over the spatial axes; every tuple has one entry per axis."""

    sizes: tuple[int, ...]
    outputs: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]

    @classmethod
    def of(cls, step: Step, kernel: Sequence[int]) -> Window:
        """Read a node's attributes, `auto_pad` resolved.

        Raises:
            UnsupportedOperator: if the spatial sizes aren't fixed.
        """
        sizes, outputs = spatial_sizes(step, step.x), spatial_sizes(step, step.y)
        axes = len(sizes)
        strides = tuple(step.attribute("strides", (1,) * axes))
        dilations = tuple(step.attribute("dilations", (1,) * axes))
        auto_pad = step.attribute("auto_pad", "NOTSET")
        if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            total = [
                max(0, (output - 1) * stride + (width - 1) * dilation + 1 - size)
                for size, output, width, stride, dilation in zip(
                    sizes, outputs, kernel, strides, dilations, strict=True
                )
            ]
            less, more = tuple(pad // 2 for pad in total), tuple(pad - pad // 2 for pad in total)
            before, after = (less, more) if auto_pad == "SAME_UPPER" else (more, less)
        else:
            pads = tuple(step.attribute("pads", (0,) * (2 * axes))) if auto_pad == "NOTSET" else (0,) * (2 * axes)
            before, after = pads[:axes], pads[axes:]
        return cls(sizes, outputs, tuple(kernel), strides, dilations, before, after)

    @property
    def pads(self) -> list[int]:
        """As ONNX's `pads` attribute: before each axis, then after each axis."""
        return [*self.before, *self.after]

    @property
    def uncovered(self) -> list[int]:
        """Elements at the end of each axis that no window reaches; negative if windows stick out of the padding."""
        return [
            size + before + after - ((output - 1) * stride + (width - 1) * dilation + 1)
            for size, output, width, stride, dilation, before, after in zip(
                self.sizes,
                self.outputs,
                self.kernel,
                self.strides,
                self.dilations,
                self.before,
                self.after,
                strict=True,
            )
        ]

    @property
    def turned_pads(self) -> list[int]:
        """Pads of the convolution with the turned kernel that gives the input's gradient, for strides of 1."""
        reaches = [dilation * (width - 1) for width, dilation in zip(self.kernel, self.dilations, strict=True)]
        before = [reach - pad for reach, pad in zip(reaches, self.before, strict=True)]
        after = [
            size - output + reach - pad
            for size, output, reach, pad in zip(self.sizes, self.outputs, reaches, before, strict=True)
        ]
        return [*before, *after]

    def phases(self) -> list[list[Phase]] | None:
        """For each axis its phases, from that of the first place on; None where they differ in size, with dilations,
        and where the gradient would have to be cut or isn't met.
        """
        if set(self.dilations) != {1} or any(
            size % stride for size, stride in zip(self.sizes, self.strides, strict=True)
        ):
            return None
        found = []
        for size, output, width, stride, before in zip(
            self.sizes, self.outputs, self.kernel, self.strides, self.before, strict=True
        ):
            axis = []
            for place in range(stride):
                start, first = divmod(place + before, stride)
                taps, places = len(range(first, width, stride)), size // stride
                axis.append(Phase(first, taps, taps - 1 - start, start + places - output, places))
            if min(min(phase.taps - 1, phase.before, phase.after) for phase in axis) < 0:
                return None
            found.append(axis)
        return found

    @property
    def padded(self) -> tuple[int, ...]:
        """Spatial sizes with the padding."""
        return tuple(
            size + before + after for size, before, after in zip(self.sizes, self.before, self.after, strict=True)
        )

    def taps(self) -> Iterator[tuple[int, ...]]:
        """Where each element of the kernel starts in the padded input."""
        places = itertools.product(*(range(width) for width in self.kernel))
        for place in places:
            yield tuple(index * dilation for index, dilation in zip(place, self.dilations, strict=True))

    def ends(self, tap: Sequence[int]) -> tuple[int, ...]:
        """One past the last element that a tap reads in the padded input."""
        return tuple(
            start + (output - 1) * stride + 1
            for start, output, stride in zip(tap, self.outputs, self.strides, strict=True)
        )
