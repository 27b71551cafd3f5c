"""Encoding the text files of one work item: raw files in, token ids with content hashes out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from shoal_core.data.archives import judge_name, read_members
from shoal_core.data.images.blocks import read_blocks
from shoal_core.data.images.fetching import read_ahead
from shoal_core.data.images.folders import class_of, folder_of
from shoal_core.data.pieces import FEATURE_HASH, NEAR_HASH, PLACE, ROW_HASH, TARGET
from shoal_core.data.plan import ArchiveSlice, ObjectSlice, Plan
from shoal_core.data.report import DropTally
from shoal_core.data.requests import FileList, open_source, relative_name
from shoal_core.data.shards import Tensors
from shoal_core.data.spec import TextColumn
from shoal_core.data.tables.hashing import row_hashes, text_digests
from shoal_core.data.texts.decoding import decode_text, judge_text_name, judge_text_size
from shoal_core.data.texts.near import near_hashes
from shoal_core.data.texts.tokens import encode_token_texts, token_texts
from shoal_core.errors import BadInput
from shoal_core.keys import DatasetKeys
from shoal_core.store import ObjectStore

_BATCH_TEXTS = 256
_BATCH_BYTES = 2 * 1024**2


class _RawText(NamedTuple):
    name: str
    data: bytes
    text: str
    label: str


def encode_text_files(
    uploads: ObjectStore, artifacts: ObjectStore, files: FileList, plan: Plan, number: int, drops: DropTally
) -> Tensors | None:
    """Encode work item `number`, a slice of an archive or of loose files; None when no sample is left.

    See `samples.encode_item`. `near_hash` uint64 [N,8] comes along unless near-duplicates are off.
    """
    item = plan.items[number]
    if isinstance(item, ArchiveSlice):
        found = _archive_texts(uploads, artifacts, plan, item, drops)
    elif isinstance(item, ObjectSlice):
        found = _object_texts(uploads, files, plan, item)
    else:
        raise BadInput(f"Work item {number} of {plan.dataset!r} holds no text files.", "Upload the data again.")
    parts = [
        encoded
        for batch in _batches(_decoded(found, plan, drops))
        if (encoded := _encode_batch(batch, plan, drops)) is not None
    ]
    if not parts:
        return None
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _decoded(found: Iterator[tuple[str, bytes]], plan: Plan, drops: DropTally) -> Iterator[_RawText]:
    for name, data in found:
        label = class_of(folder_of(name), plan.root)
        if label is None:
            reason, fix = f"{name!r} lies outside class folders.", "Move it into the folder of its class."
            drops.add(plan.source_name, name, "no_class_folder", reason, fix, raw=data)
            continue
        try:
            text = decode_text(data, repr(name))
        except BadInput as error:
            drops.add(plan.source_name, name, "bad_text", error.reason, error.fix, raw=data)
            continue
        yield _RawText(name, data, text, label)


def _batches(found: Iterator[_RawText]) -> Iterator[list[_RawText]]:
    """Texts that are encoded together: memory is bounded by these, not by the work item."""
    batch: list[_RawText] = []
    size = 0
    for raw in found:
        batch.append(raw)
        size += len(raw.data)
        if len(batch) >= _BATCH_TEXTS or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _encode_batch(batch: list[_RawText], plan: Plan, drops: DropTally) -> Tensors | None:
    column = _column(plan)
    if drops.checks is not None:
        drops.checks.add(plan.source_name, {column.name: [raw.text for raw in batch]}, [raw.name for raw in batch])
    texts: list[str | None] = []
    kept: list[_RawText] = []
    for raw, text in zip(batch, token_texts([raw.text for raw in batch], column), strict=True):
        if text:
            texts.append(text)
            kept.append(raw)
        else:
            fix = "Fill it in, or remove it."
            drops.add(plan.source_name, raw.name, "empty_text", f"{raw.name!r} holds no words.", fix, raw=raw.data)
    drops.encode(plan.source_name, len(kept))
    if not kept:
        return None
    digests = text_digests(texts)
    labels = [raw.label for raw in kept]
    encoded: Tensors = {
        "tokens": encode_token_texts(texts, column),
        TARGET: plan.spec.encode_target(labels),
        FEATURE_HASH: row_hashes([(column.name, digests)], len(kept)),
        ROW_HASH: row_hashes([(column.name, digests), ("", text_digests(labels))], len(kept)),
        PLACE: np.array([raw.name for raw in kept], object),
    }
    if plan.config.near_duplicates != "off":
        encoded[NEAR_HASH] = near_hashes(texts, column.unit)
    return encoded


def _column(plan: Plan) -> TextColumn:
    table = plan.spec.table
    if table is None or len(table.texts) != 1:
        raise BadInput(f"The plan of {plan.dataset!r} has no column of texts.", "Upload the data again.")
    return table.texts[0]


def _archive_texts(
    uploads: ObjectStore, artifacts: ObjectStore, plan: Plan, item: ArchiveSlice, drops: DropTally
) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of a slice's texts; refused members were counted by planning, damaged ones are counted here."""
    if item.block is not None:
        for _, name, data in read_blocks(artifacts, DatasetKeys(plan.dataset, plan.version), item):
            yield name, data
        return
    file = plan.one_source
    with open_source(uploads, file) as stream:
        for member, data in read_members(stream, plan.source_name, file.size, item.first, item.last, item.offset):
            if member.code == "damaged":
                reason = f"{member.name!r}: {member.reason}."
                drops.add(plan.source_name, member.name, member.code, reason, member.fix)
            elif not member.code and _is_sample(member.name, member.size):
                yield member.name, data


def _object_texts(uploads: ObjectStore, files: FileList, plan: Plan, item: ObjectSlice) -> Iterator[tuple[str, bytes]]:
    chosen = [
        (name, file)
        for file in files.part(item.first, item.last)
        if not judge_name(name := relative_name(file, plan.dataset))[0] and _is_sample(name, file.size)
    ]
    contents = read_ahead(uploads, [file for _, file in chosen])
    for (name, _), data in zip(chosen, contents, strict=True):
        yield name, data


def _is_sample(name: str, size: int) -> bool:
    return not judge_text_name(name)[0] and not judge_text_size(size)[0]
