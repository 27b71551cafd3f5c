"""Varying the samples of a batch at training time: on whole batches in numpy, and the same in every repetition.

What happens to a batch is a function of (seed, worker, step) and of the batch alone, so a retried or resumed round sees
the same samples. Validation, test and served samples never come here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.manifest import Manifest
from shoal_core.data.shards import Tensors
from shoal_core.data.spec import ImageInput
from shoal_core.training.moments import column_moments
from shoal_core.training.settings import TrainingSettings

Pixels = NDArray[np.uint8]
_UNKNOWN_TOKEN = 1
# Tells these draws from those of the order of samples.
_DRAW = 0x617567
# Channels that brightness and contrast are about; the others are colours.
_LIGHT_CHANNELS = {"rgb": slice(None), "hsv": slice(2, 3), "ycbcr": slice(0, 1)}


def soft_targets(settings: TrainingSettings) -> bool:
    """Whether a sample may belong to several classes in part, since samples are mixed."""
    return settings.task == "classification" and "mixup" in settings.augment


class Augmenter:
    """Makes a batch ready for the step graph.

    Args:
        settings: Of the run.
        manifest: Of its data.
        worker: The worker, from 0.
    """

    def __init__(self, settings: TrainingSettings, manifest: Manifest, worker: int) -> None:
        self._chosen = settings.augment
        self._seed = (settings.seed, worker)
        self._task = settings.task
        self._image = manifest.spec.image
        self._classes = len(settings.classes) if soft_targets(settings) else 0
        columns = manifest.spec.table or manifest.spec.sequence
        names = columns.number_names if columns and "noise" in self._chosen else ()
        self._deviations = np.array([std for _, std in column_moments(manifest, names)], np.float32)
        self._means = np.array([channel.mean for channel in manifest.statistics.channels])

    def prepare(self, batch: Tensors, step: int) -> Tensors:
        """The batch of a step as the network learns from it; arrays of the batch may be changed in place.

        Args:
            batch: As the shards have it, [N, ...].
            step: Local step, from 0.

        Returns:
            The same tensors; `target` becomes float32 [N, classes] for several labels and for mixed samples.
        """
        if self._task == "multilabel":
            batch["target"] = batch["target"].astype(np.float32)
        elif self._classes:
            batch["target"] = np.eye(self._classes, dtype=np.float32)[batch["target"]]
        if not self._chosen:
            return batch
        random = np.random.Generator(np.random.PCG64(np.random.SeedSequence((*self._seed, step, _DRAW))))
        if self._image is not None and "image" in batch:
            self._vary_images(batch, self._image, random)
        if "tokens" in batch and (share := self._chosen.get("token_dropout")):
            drop_tokens(batch["tokens"], share, random)
        if noise := self._chosen.get("noise"):
            name = "sequence" if "sequence" in batch else "numbers"
            draws = random.standard_normal(batch[name].shape, np.float32)
            batch[name] = batch[name] + draws * (self._deviations * np.float32(noise))
        return batch

    def _vary_images(self, batch: Tensors, image: ImageInput, random: np.random.Generator) -> None:
        chosen = self._chosen
        pixels: Pixels = batch["image"]
        if any(name in chosen for name in ("flip", "shift", "crop", "rotation")):
            pixels = move_images(pixels, chosen, random)
        if "brightness" in chosen or "contrast" in chosen:
            light = _LIGHT_CHANNELS[image.color] if image.channels == 3 else slice(None)
            pixels[:, light] = light_images(
                pixels[:, light], chosen.get("brightness", 0.0), chosen.get("contrast", 0.0), random
            )
        if "cutout" in chosen:
            cut_images(pixels, chosen["cutout"], self._means, random)
        if "mixup" in chosen:
            pixels, batch["target"] = mix_samples(pixels, batch["target"], chosen["mixup"], random)
        batch["image"] = pixels


def drop_tokens(tokens: NDArray[np.int32], share: float, random: np.random.Generator) -> None:
    """Turn this share of the known tokens, int32 [N, L], into unknown ones, in place. Padding stays."""
    dropped = (random.random(tokens.shape, np.float32) < share) & (tokens > _UNKNOWN_TOKEN)
    tokens[dropped] = _UNKNOWN_TOKEN


def move_images(images: Pixels, chosen: dict[str, float], random: np.random.Generator) -> Pixels:
    """Flip, shift, crop and rotate images [N, C, H, W], each by a draw of its own; the edge is continued outwards.

    Args:
        images: What to move.
        chosen: `flip` (half of them, left and right), `shift` and `crop` (shares of the side), `rotation` (degrees).
        random: Draws in an order that depends on what is chosen only.
    """
    count, height, width = len(images), *images.shape[2:]
    flipped = random.random(count) < 0.5 if chosen.get("flip") else np.zeros(count, np.bool_)
    reach = [round(chosen.get("shift", 0.0) * side) for side in (height, width)]
    down, right = (random.integers(-most, most + 1, count) for most in reach)
    if "crop" not in chosen and "rotation" not in chosen:
        rows = np.clip(np.arange(height) - down[:, None], 0, height - 1)
        columns = np.clip(np.arange(width) - right[:, None], 0, width - 1)
        columns = np.where(flipped[:, None], width - 1 - columns, columns)
        places = rows[:, :, None] * width + columns[:, None, :]
        moved: Pixels = _taken(images, places.reshape(count, -1)).reshape(images.shape)
        return moved
    scale = 1 - random.random(count) * chosen.get("crop", 0.0)
    # A crop may lie anywhere inside the image.
    aside = [(random.random(count) - 0.5) * (1 - scale) * side for side in (height, width)]
    angle = np.deg2rad(random.uniform(-1, 1, count) * chosen.get("rotation", 0.0))
    y = np.arange(height)[None, :, None] - (height - 1) / 2
    x = (np.arange(width)[None, None, :] - (width - 1) / 2) * np.where(flipped, -1, 1)[:, None, None]
    cos, sin = ((scale * wave(angle))[:, None, None] for wave in (np.cos, np.sin))
    source_y = cos * y - sin * x + ((height - 1) / 2 + aside[0] - down)[:, None, None]
    source_x = sin * y + cos * x + ((width - 1) / 2 + aside[1] - right)[:, None, None]
    return _sampled(images, source_y, source_x)


def light_images(images: Pixels, brightness: float, contrast: float, random: np.random.Generator) -> Pixels:
    """Multiply each image [N, C, H, W], and its distance from its own mean, by factors up to these shares from 1."""
    count = len(images)
    bright, hard = (1 + random.uniform(-1, 1, count) * share for share in (brightness, contrast))
    middle = images.reshape(count, -1).mean(axis=1)
    tables = bright[:, None] * (middle[:, None] + hard[:, None] * (np.arange(256) - middle[:, None]))
    tables = np.clip(np.rint(tables), 0, 255).astype(np.uint8)
    places = images.reshape(count, -1).astype(np.intp) + 256 * np.arange(count)[:, None]
    lit: Pixels = tables.reshape(-1)[places].reshape(images.shape)
    return lit


def cut_images(images: Pixels, share: float, means: NDArray[np.float64], random: np.random.Generator) -> None:
    """Cover a square, with sides of this share, of each image [N, C, H, W] with the channels' means, in place."""
    count, height, width = len(images), *images.shape[2:]
    covered = np.ones((count, height, width), np.bool_)
    for axis, side in enumerate((height, width), 1):
        length = round(share * side)
        first = random.integers(0, side - length + 1, count)[:, None]
        inside = (np.arange(side) >= first) & (np.arange(side) < first + length)
        covered &= np.expand_dims(inside, 3 - axis)
    fill = np.rint(means).astype(np.uint8).reshape(1, -1, 1, 1)
    np.copyto(images, fill, where=covered[:, None])


def mix_samples(
    images: Pixels, target: NDArray[Any], alpha: float, random: np.random.Generator
) -> tuple[Pixels, NDArray[np.float32]]:
    """Mix each sample with another one of the batch (H. Zhang et al., "mixup", 2018).

    Args:
        images: uint8 [N, C, H, W].
        target: Shares of classes float32 [N, C], or numbers [N].
        alpha: Of the Beta distribution that the shares come from.
        random: Draws.
    """
    count = len(images)
    share = random.beta(alpha, alpha, count).astype(np.float32)
    partner = random.permutation(count)
    wide = share.reshape(-1, 1, 1, 1)
    mixed = np.rint(images * wide + images[partner] * (1 - wide)).astype(np.uint8)
    own = share.reshape(-1, *[1] * (target.ndim - 1))
    return mixed, (target * own + target[partner] * (1 - own)).astype(np.float32)


def _sampled(images: Pixels, y: NDArray[np.float64], x: NDArray[np.float64]) -> Pixels:
    """Bilinear values of images [N, C, H, W] at places [N, H, W]; beyond the edge those of the edge."""
    count, height, width = len(images), *images.shape[2:]
    y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
    top, left = (np.minimum(np.floor(p).astype(np.intp), max(0, side - 2)) for p, side in ((y, height), (x, width)))
    step_down, step_right = width if height > 1 else 0, 1 if width > 1 else 0
    corner = (top * width + left).reshape(count, -1)
    part_y, part_x = ((p - q).astype(np.float32).reshape(count, 1, -1) for p, q in ((y, top), (x, left)))
    total = np.zeros((count, images.shape[1], height * width), np.float32)
    for down, weight_y in ((0, 1 - part_y), (step_down, part_y)):
        for right, weight_x in ((0, 1 - part_x), (step_right, part_x)):
            total += _taken(images, corner + (down + right)) * (weight_y * weight_x)
    return np.rint(total).astype(np.uint8).reshape(images.shape)


def _taken(images: Pixels, places: NDArray[np.intp]) -> Pixels:
    """Pixels of images [N, C, H, W] at flat places [N, P]: [N, C, P]."""
    flat = images.reshape(*images.shape[:2], -1)
    taken: Pixels = np.take_along_axis(flat, places[:, None, :], axis=2)
    return taken
