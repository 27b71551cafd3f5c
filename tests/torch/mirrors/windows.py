"""Sliding windows, pooling and resizing."""

import torch
import torch.nn.functional as F


def padded(x, *pads, value=0.0):
    return F.pad(x, pads, value=value)


PYTORCH = {
    "conv": lambda x, w, b: F.conv2d(x, w, b, padding=1),
    "conv_strides": lambda x, w: F.conv2d(padded(x, 1, 1, 0, 2), w, stride=(2, 3)),
    "conv_dilations": lambda x, w: F.conv2d(x, w, dilation=(3, 2)),
    "conv_groups": lambda x, w, b: F.conv2d(x, w, b, padding=1, groups=2),
    "conv_depthwise": lambda x, w: F.conv2d(x, w, groups=3),
    # 6x7 with kernel 3x2 and stride 2: one element is missing along each axis.
    "conv_same_upper": lambda x, w: F.conv2d(padded(x, 0, 1, 0, 1), w, stride=2),
    "conv_same_lower": lambda x, w: F.conv2d(padded(x, 1, 0, 1, 0), w, stride=2),
    "conv_valid": F.conv2d,
    "conv_pointwise": F.conv2d,
    "conv_many_channels": F.conv2d,
    "conv_many_channels_groups": lambda x, w: F.conv2d(x, w, groups=2),
    "conv_joined": F.conv2d,
    "conv_1d": lambda x, w, b: F.conv1d(x, w, b, stride=2, padding=1),
    "conv_3d": F.conv3d,
    "max_pool": lambda x: F.max_pool2d(x, 2),
    "max_pool_double": lambda x: F.max_pool2d(x, 2),
    "max_pool_overlap": lambda x: F.max_pool2d(x, 3, stride=(2, 1), padding=1),
    "max_pool_ceil": lambda x: F.max_pool2d(x, 2, ceil_mode=True),
    "max_pool_dilated": lambda x: F.max_pool2d(x, 2, stride=2, dilation=(2, 3)),
    "average_pool": lambda x: F.avg_pool2d(x, 2),
    "average_pool_pads": lambda x: F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False),
    "average_pool_count_pads": lambda x: F.avg_pool2d(padded(x, 0, 1, 1, 1), (3, 2), stride=1),
    "global_average_pool": lambda x: x.mean((2, 3), keepdim=True),
    "global_average_pool_unknown": lambda x: x.mean((2, 3), keepdim=True),
    "global_max_pool": lambda x: torch.amax(x, (2, 3), keepdim=True),
    # ONNX pads only before the first axis; the windows there average what lies inside.
    "average_pool_ceil": lambda x: (
        F.avg_pool2d(padded(x, 0, 0, 1, 0), (2, 3), ceil_mode=True) * torch.tensor([2.0, 1, 1, 1])[:, None]
    ),
    "average_pool_ceil_count_pads": lambda x: F.avg_pool2d(x, 3, stride=2, padding=1, ceil_mode=True),
    "depth_to_space": lambda x: F.pixel_shuffle(x.unflatten(1, (4, 2)).transpose(1, 2).flatten(1, 2), 2),
    "depth_to_space_crd": lambda x: F.pixel_shuffle(x, 2),
    "space_to_depth": lambda x: F.pixel_unshuffle(x, 2).unflatten(1, (2, 4)).transpose(1, 2).flatten(1, 2),
    "resize": lambda x: F.interpolate(x, scale_factor=(2.0, 3.0), mode="nearest"),
    "resize_smaller": lambda x: x[:, :, ::2],
    "conv_transpose": lambda x, w, b: F.conv_transpose2d(x, w, b, padding=1),
    # PyTorch cuts off both ends alike.
    "conv_transpose_strides": lambda x, w, b: F.conv_transpose2d(x, w, b, (2, 3), 0, (1, 2))[:, :, 1:-1, :-1],
    "conv_transpose_doubling": lambda x, w: F.conv_transpose2d(x, w, stride=2),
    "conv_transpose_gaps": lambda x, w: F.conv_transpose2d(x, w, stride=(2, 3)),
    "conv_transpose_groups": lambda x, w, b: F.conv_transpose2d(x, w, b, (2, 1), groups=2, dilation=(1, 2)),
    "conv_transpose_depthwise": lambda x, w: F.conv_transpose2d(x, w, stride=2, groups=3),
    # 3x4 with kernel 3x4 and stride 2 is 7x10: one and two are too many for 6x8.
    "conv_transpose_same_upper": lambda x, w: F.conv_transpose2d(x, w, stride=2)[:, :, :-1, 1:-1],
    "conv_transpose_same_lower": lambda x, w: F.conv_transpose2d(x, w, stride=2)[:, :, 1:, 1:-1],
    "conv_transpose_output_shape": lambda x, w: F.conv_transpose2d(x, w, stride=2)[:, :, 1:, 1:],
    "conv_transpose_1d": lambda x, w, b: F.conv_transpose1d(x, w, b, 2, 1),
    "conv_transpose_3d": lambda x, w: F.conv_transpose3d(x, w, stride=(1, 2, 1)),
    "resize_linear": lambda x: F.interpolate(x, scale_factor=(2.0, 1.5), mode="bilinear"),
    "resize_linear_corners": lambda x: F.interpolate(x, (6, 3), mode="bilinear", align_corners=True),
    "resize_linear_sizes": lambda x: F.interpolate(x, (5, 4), mode="bilinear"),
    "resize_linear_1d": lambda x: F.interpolate(x, scale_factor=2, mode="linear"),
    "resize_linear_3d": lambda x: F.interpolate(x, scale_factor=(2.0, 2.0, 1.5), mode="trilinear"),
    "resize_linear_axes": lambda x: F.interpolate(x, (6, 2), mode="bilinear"),
    "resize_antialias": lambda x: F.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True),
    "resize_cubic": lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"),
    "resize_nearest_half_pixel": lambda x: F.interpolate(x, (5, 8), mode="nearest-exact"),
    "resize_nearest_blocks": lambda x: F.interpolate(x, (6, 12), mode="nearest-exact"),
    # i/2 rounded up: 0 1 1 2 2 3, and the last one stays.
    "resize_nearest_not_blocks": lambda x: x[:, :, [0, 1, 1, 2, 2, 2]][..., [0, 1, 1, 2, 2, 3, 3, 3]],
    "resize_nearest_fraction": lambda x: x[:, :, [0, 0, 0, 1, 1, 2]],
}
