"""Encoding the text files of one work item: raw files in, token ids with content hashes out."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from shoal_core.data.images.folders import class_of, folder_of
from shoal_core.data.images.item_labels import ItemLabels, read_item_labels
from shoal_core.data.images.raw_files import RawFile, read_files
from shoal_core.data.pieces import FEATURE_HASH, NEAR_HASH, PLACE, ROW_HASH, TARGET
from shoal_core.data.plan import Plan
from shoal_core.data.report import DropTally
from shoal_core.data.requests import FileList
from shoal_core.data.shards import Tensors
from shoal_core.data.spec import TextColumn
from shoal_core.data.tables.hashing import plain_digests, row_hashes, text_digests
from shoal_core.data.texts.decoding import decode_text, judge_text
from shoal_core.data.texts.near import near_hashes
from shoal_core.data.texts.tokens import encode_token_texts, token_texts
from shoal_core.errors import BadInput
from shoal_core.store import ObjectStore

_BATCH_TEXTS = 256
_BATCH_BYTES = 2 * 1024**2


class _RawText(NamedTuple):
    file: RawFile
    text: str
    label: str
    row: int


def encode_text_files(
    uploads: ObjectStore, artifacts: ObjectStore, files: FileList, plan: Plan, number: int, drops: DropTally
) -> Tensors | None:
    """Encode work item `number`, a slice of an archive or of loose files; None when no sample is left.

    See `samples.encode_item`. `near_hash` uint64 [N,8] comes along unless near-duplicates are off, and `group` or
    `time` where the settings split by them.
    """
    found = read_files(uploads, artifacts, files, plan, number, judge_text, drops)
    known = read_item_labels(artifacts, plan, number)
    parts = [
        encoded
        for batch in _batches(_decoded(found, plan, known, drops))
        if (encoded := _encode_batch(batch, plan, known, drops)) is not None
    ]
    if not parts:
        return None
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _decoded(found: Iterator[RawFile], plan: Plan, known: ItemLabels | None, drops: DropTally) -> Iterator[_RawText]:
    for file in found:
        row = 0 if known is None else known.row(file.number)
        if row is None:
            continue
        label = class_of(folder_of(file.name), plan.root)
        if label is None:
            reason, fix = f"{file.name!r} lies outside class folders.", "Move it into the folder of its class."
            drops.add(file.source, file.name, "no_class_folder", reason, fix, raw=file.data)
            continue
        try:
            text = decode_text(file.data, repr(file.name))
        except BadInput as error:
            drops.add(file.source, file.name, "bad_text", error.reason, error.fix, raw=file.data)
            continue
        yield _RawText(file, text, label, row)


def _batches(found: Iterator[_RawText]) -> Iterator[list[_RawText]]:
    """Texts that are encoded together: memory is bounded by these, not by the work item."""
    batch: list[_RawText] = []
    size = 0
    for raw in found:
        batch.append(raw)
        size += len(raw.file.data)
        if len(batch) >= _BATCH_TEXTS or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _encode_batch(batch: list[_RawText], plan: Plan, known: ItemLabels | None, drops: DropTally) -> Tensors | None:
    column = _column(plan)
    if drops.checks is not None:
        for source, group in itertools.groupby(batch, key=lambda raw: raw.file.source):
            raws = list(group)
            drops.checks.add(source, {column.name: [raw.text for raw in raws]}, [raw.file.name for raw in raws])
    texts: list[str | None] = []
    kept: list[_RawText] = []
    for raw, text in zip(batch, token_texts([raw.text for raw in batch], column), strict=True):
        if text:
            texts.append(text)
            kept.append(raw)
        else:
            file, fix = raw.file, "Fill it in, or remove it."
            drops.add(file.source, file.name, "empty_text", f"{file.name!r} holds no words.", fix, raw=file.data)
    for source, count in Counter(raw.file.source for raw in kept).items():
        drops.encode(source, count)
    if not kept:
        return None
    digests = plain_digests(text_digests(texts))
    labels = [raw.label for raw in kept]
    encoded: Tensors = {
        "tokens": encode_token_texts(texts, column),
        TARGET: plan.spec.encode_target(labels),
        FEATURE_HASH: row_hashes([(column.name, digests)], len(kept)),
        ROW_HASH: row_hashes([(column.name, digests), ("", plain_digests(text_digests(labels)))], len(kept)),
        PLACE: np.array([raw.file.name for raw in kept], object),
    }
    if plan.config.near_duplicates != "off":
        encoded[NEAR_HASH] = near_hashes(texts, column.unit)
    return encoded if known is None else {**encoded, **known.gather([raw.row for raw in kept])}


def _column(plan: Plan) -> TextColumn:
    table = plan.spec.table
    if table is None or len(table.texts) != 1:
        raise BadInput(f"The plan of {plan.dataset!r} has no column of texts.", "Upload the data again.")
    return table.texts[0]
