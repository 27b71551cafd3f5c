"""Reading data that isn't uploaded: an S3 prefix, a list of S3 URIs, a DynamoDB table.

`SourceReader.plan` pins what is asked for; `prepare` cuts it into segments, once it can be read; `read` reads one, page
by page, and notes after every part how far it has come, so that whoever goes on, after fifteen minutes or a crash, goes
on there; `commit` begins a dataset version of what all segments found. An unchanged source is the same version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pydantic import Field

from shoal_core.data.canonical import canonical_json
from shoal_core.data.config import DatasetConfig, ListingPart, SourceFile, parse_config
from shoal_core.data.listings import PART_FILES, decode_part
from shoal_core.data.source_config import SourceConfig
from shoal_core.errors import BadConfig, BadDataset, NotFound, TooLarge
from shoal_core.frozen import Frozen
from shoal_core.keys import SourceKeys
from shoal_core.registry.beginning import Begin, Outcome
from shoal_core.registry.file_sets import MAX_FILES, ContentSum, ListingWriter, listed_set
from shoal_core.registry.names import CONFIG_FILE, PREFIX, matches, parse_upload_key
from shoal_core.registry.source_exports import EXPORT_BYTES, TableExports, export_files, exported_items, look_at_export
from shoal_core.registry.source_rows import ROWS_BYTES, RowWriter
from shoal_core.registry.source_tasks import SourceTask
from shoal_core.registry.uri_lists import LINES_PER_SEGMENT, count_uris, describe_uris, read_uris
from shoal_core.store import ObjectStore

# A table is scanned in one segment per 256 MiB, unless dataset.yaml says otherwise.
SEGMENT_BYTES = 256 << 20
MAX_INFERRED_SEGMENTS = 16
# Parts of one table: each is a file of the dataset, and request.json holds them all.
MAX_ROW_FILES = PART_FILES

Cursor = dict[str, Any]
Page = tuple[list[Mapping[str, Any]], Cursor | None]


class SourceUploads(ObjectStore, Protocol):
    """S3 as sources need it; `in_bucket` leads to other buckets."""

    def listing(self, prefix: str, after: str = "") -> Iterator[SourceFile]:
        """Current objects under a prefix whose keys come after `after`, in UTF-8 order, with size and ETag."""
        ...

    def describe(self, key: str, version: str | None = None) -> SourceFile:
        """An object's S3 version, size and ETag. Raises `NotFound` or `NotPermitted`."""
        ...


class Tables(TableExports, Protocol):
    """DynamoDB as sources need it. Raises `NotFound`, `NotPermitted` or `Unavailable`."""

    def size(self, table: str) -> int:
        """About how many bytes the table has."""
        ...

    def pages(self, table: str, segment: int, segments: int, cursor: Cursor | None) -> Iterator[Page]:
        """Items of one segment, page by page, each with the cursor of the next page (None after the last)."""
        ...


class SourcePlan(Frozen):
    """`source.json`: what is read, pinned. `lines` are those of a list of URIs; an export's segments come later."""

    schema_version: Literal[1] = 1
    task: SourceTask
    kind: Literal["s3", "uris", "dynamodb"]
    config: DatasetConfig
    segments: int = Field(ge=1)
    lines: int = 0
    by: Literal["scan", "export"] = "scan"

    @property
    def keys(self) -> SourceKeys:
        """Where the reading is kept."""
        return SourceKeys(self.task.dataset, self.task.source_id)

    @property
    def source(self) -> SourceConfig:
        """The S3 prefix or the table. Raises `BadConfig` for a list of URIs."""
        if self.config.source is None:
            raise BadConfig(f"{self.task.key!r} has no `source`.", "Write it again with a `source`.")
        return self.config.source

    @property
    def title(self) -> str:
        """What is read, in words, for messages."""
        return repr(self.task.key) if self.kind == "uris" else self.source.title


@dataclass(frozen=True)
class Prepared:
    """How a source can be read: in `segments`, or (0) not before about `seconds`."""

    segments: int
    seconds: int = 0


class SegmentState(Frozen):
    """`segment-000.json`: how far a segment has come. The cursor is that of the next thing to read."""

    schema_version: Literal[1] = 1
    done: bool = False
    cursor: Cursor | None = None
    parts: tuple[ListingPart, ...] = ()
    files: tuple[SourceFile, ...] = ()
    bytes: int = 0
    count: int = 0
    total: str = "0"


@dataclass(frozen=True)
class SourceReader:
    """Reads sources: S3 and DynamoDB in, listings and rows of tables out.

    Args:
        uploads: The bucket of uploads, which leads to other buckets.
        artifacts: Where everything that is read goes.
        tables: DynamoDB.
        rows_bucket: The name of the artifacts' bucket: rows of tables become files of the dataset there.
    """

    uploads: SourceUploads
    artifacts: ObjectStore
    tables: Tables
    rows_bucket: str

    def plan(self, task: SourceTask) -> SourcePlan:
        """Pin what a task asks for, once; a later call returns that.

        Raises:
            BadConfig, BadDataset: The source can't be read; the reason names it.
            NotFound, NotPermitted: It isn't there, or the stack may not read it; the fix names the parameter.
        """
        key = SourceKeys(task.dataset, task.source_id).source
        if not self.artifacts.exists(key):
            data = canonical_json(self._plan(task).model_dump(mode="json"))
            self.artifacts.write_new(key, data, "application/json")
        return SourcePlan.model_validate_json(self.artifacts.read(key))

    def _plan(self, task: SourceTask) -> SourcePlan:
        parsed = parse_upload_key(task.key)
        if parsed is not None and parsed.is_list:
            lines = count_uris(self.uploads, task.key, task.version)
            return SourcePlan(
                task=task, kind="uris", config=self._config(task), segments=-(-lines // LINES_PER_SEGMENT), lines=lines
            )
        config = parse_config(self.uploads.read(task.key, task.version))
        source = config.source
        if source is None:
            raise BadConfig(f"{task.key!r} has no `source`.", "Write it again with a `source`.")
        if source.dynamodb is None:
            return SourcePlan(task=task, kind="s3", config=config, segments=1)
        size = self.tables.size(source.dynamodb)
        by = source.by or "scan"
        if source.by is None and source.segments is None and size >= EXPORT_BYTES:
            by = "export" if self.tables.is_recoverable(source.dynamodb) else "scan"
        inferred = min(MAX_INFERRED_SEGMENTS, 1 + size // SEGMENT_BYTES)
        return SourcePlan(task=task, kind="dynamodb", config=config, segments=source.segments or inferred, by=by)

    def prepare(self, plan: SourcePlan) -> Prepared:
        """Cut a pinned source into segments; a table's export is asked for, once, and looked at again later.

        Raises:
            BadConfig: The table has no point-in-time recovery, which exports need.
            BadDataset: DynamoDB couldn't export the table.
        """
        if plan.by != "export":
            return Prepared(plan.segments)
        table = plan.source.dynamodb or ""
        found = look_at_export(self.artifacts, self.tables, table, plan.keys, plan.task.source_id, self.rows_bucket)
        return Prepared(found.segments) if found.done else Prepared(0, found.seconds)

    def _segments(self, plan: SourcePlan) -> int:
        return export_files(self.artifacts, plan.keys).segments if plan.by == "export" else plan.segments

    def _config(self, task: SourceTask) -> DatasetConfig:
        """The settings beside a list of URIs: those that asked for it, else the newest."""
        key = f"{PREFIX}{task.dataset}/{CONFIG_FILE}"
        try:
            return parse_config(self.uploads.read(key, task.trigger.version if task.trigger.key == key else None))
        except NotFound:
            return DatasetConfig()

    def read(self, plan: SourcePlan, segment: int, has_time: Callable[[], bool] = lambda: True) -> bool:
        """Read on in one segment. Safe to repeat, also at once: what a page becomes is named by its content.

        Args:
            plan: What is read.
            segment: Its number, from 0.
            has_time: Asked after every part; False ends the call early.

        Returns:
            Whether the segment is read to its end.
        """
        key = plan.keys.segment(segment)
        state = self._state(plan, segment) or SegmentState()
        if state.done:
            return True
        read_rows = self._read_export if plan.by == "export" else self._read_table
        steps = {"s3": self._read_prefix, "uris": self._read_list, "dynamodb": read_rows}[plan.kind]
        for reached in steps(plan, segment, state):
            self.artifacts.write(key, canonical_json(reached.model_dump(mode="json")), "application/json")
            if reached.done or not has_time():
                return reached.done
        return False

    def _state(self, plan: SourcePlan, segment: int) -> SegmentState | None:
        try:
            return SegmentState.model_validate_json(self.artifacts.read(plan.keys.segment(segment)))
        except NotFound:
            return None

    def _read_prefix(self, plan: SourcePlan, segment: int, state: SegmentState) -> Iterator[SegmentState]:
        """States after every 10,000 objects of an S3 prefix."""
        source = plan.source
        folder = source.prefix.rpartition("/")[0]
        skipped = len(folder) + 1 if folder else 0
        writer = _writer(self.artifacts, plan, state)
        listed = self.uploads.in_bucket(source.bucket).listing(source.prefix, (state.cursor or {}).get("after", ""))
        for file in listed:
            name = file.key[skipped:]
            if is_hidden(name) or (plan.config.files is not None and not matches(name, plan.config.files)):
                continue
            writer.add(file.model_copy(update={"bucket": source.bucket, "name": name}))
            if len(writer.files) == PART_FILES:
                writer.flush()
                yield _reached(writer, {"after": file.key})
        writer.flush()
        yield _reached(writer, None)

    def _read_list(self, plan: SourcePlan, segment: int, state: SegmentState) -> Iterator[SegmentState]:
        """The state after all lines of one segment of a list of URIs."""
        first, task = segment * LINES_PER_SEGMENT, plan.task
        entries = read_uris(self.uploads, task.key, task.version, first, first + LINES_PER_SEGMENT)
        writer = _writer(self.artifacts, plan, state)
        for file in describe_uris(self.uploads, task.key, entries):
            writer.add(file)
        writer.flush()
        yield _reached(writer, None)

    def _read_table(self, plan: SourcePlan, segment: int, state: SegmentState) -> Iterator[SegmentState]:
        """States after every part of the rows of one segment of a DynamoDB table."""
        pages = self.tables.pages(plan.source.dynamodb or "", segment, plan.segments, state.cursor)
        return self._write_rows(plan, segment, state, pages)

    def _read_export(self, plan: SourcePlan, segment: int, state: SegmentState) -> Iterator[SegmentState]:
        """States after every part of the rows of the exported files that are the segment's."""
        pages = exported_items(self.artifacts, export_files(self.artifacts, plan.keys), segment, state.cursor)
        return self._write_rows(plan, segment, state, pages)

    def _write_rows(
        self, plan: SourcePlan, segment: int, state: SegmentState, pages: Iterator[Page]
    ) -> Iterator[SegmentState]:
        name = f"{plan.source.dynamodb}-{segment:03d}"
        rows = RowWriter(self.artifacts, self.rows_bucket, plan.keys, name, list(state.files))
        rows.content.merge(state.count, int(state.total, 16))
        for items, cursor in pages:
            rows.add(items)
            if rows.buffered >= ROWS_BYTES or cursor is None:
                rows.flush()
                yield SegmentState(
                    done=cursor is None,
                    cursor=cursor,
                    files=tuple(rows.files),
                    bytes=sum(file.size for file in rows.files),
                    count=rows.content.count,
                    total=f"{rows.content.total:x}",
                )

    def commit(self, plan: SourcePlan, begin: Begin) -> Outcome:
        """Begin a dataset version of what all segments found.

        Raises:
            BadDataset: They found nothing.
            TooLarge: More than 5,000,000 objects, or more than 10,000 parts of a table.
            NotFound: A segment hasn't been read.
        """
        content, parts, files, size = ContentSum(), list[ListingPart](), list[SourceFile](), 0
        for segment in range(self._segments(plan)):
            state = self._state(plan, segment)
            if state is None or not state.done:
                raise NotFound(f"Source {plan.task.source_id!r} isn't read to its end.", "Write dataset.yaml again.")
            content.merge(state.count, int(state.total, 16))
            parts += state.parts
            files += state.files
            size += state.bytes
        if not content.count:
            raise BadDataset(f"{plan.title} holds nothing.", "Check the name, and `files` in dataset.yaml.")
        if len(files) > MAX_ROW_FILES or (parts and content.count > MAX_FILES):
            raise TooLarge(f"{plan.title} holds too much for one dataset.", "Name a part of it.")
        if sum(part.count for part in parts) <= PART_FILES:
            files += [file for part in parts for file in decode_part(self.artifacts.read(part.key), part)]
            parts = []
        found = listed_set(content.digest(), files, parts, size, files)
        task = plan.task
        return begin(task.dataset, found, plan.config, task.order, [task.trigger], caller=task.caller)


def is_hidden(name: str) -> bool:
    """What data lakes keep beside their data: `_SUCCESS`, `_delta_log/…`, `.crc` files; and folder markers."""
    return not name or name.endswith("/") or any(part.startswith(("_", ".")) for part in name.split("/"))


def _writer(artifacts: ObjectStore, plan: SourcePlan, state: SegmentState) -> ListingWriter:
    writer = ListingWriter(artifacts, plan.task.dataset, list(state.parts), bytes=state.bytes)
    writer.content.merge(state.count, int(state.total, 16))
    return writer


def _reached(writer: ListingWriter, cursor: Cursor | None) -> SegmentState:
    content = writer.content
    parts = tuple(writer.parts)
    return SegmentState(
        done=cursor is None,
        cursor=cursor,
        parts=parts,
        bytes=writer.bytes,
        count=content.count,
        total=f"{content.total:x}",
    )
