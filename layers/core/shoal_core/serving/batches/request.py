"""What a batch job was asked for: `batch.yaml`, and `request.json`, which the job starts from."""

from __future__ import annotations

import difflib
import reprlib
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from shoal_core.data.canonical import canonical_json
from shoal_core.data.config import read_yaml
from shoal_core.data.config_types import Integer
from shoal_core.data.source_config import S3_URI, Patterns
from shoal_core.errors import BadConfig, BadInput
from shoal_core.frozen import Frozen
from shoal_core.keys import BatchKeys
from shoal_core.store import ObjectStore

CONFIG_FILE = "batch.yaml"
MAX_PIECE_RECORDS = 1_000_000
ALLOWED = {
    "schema_version": "1",
    "files": "patterns of file names, such as '*.csv' or 'day=*/**'",
    "source": "s3://BUCKET/PREFIX",
    "version": "a version of the model, such as 3",
    "probabilities": "best (of the answer alone) or all (of every class)",
    "piece_records": f"a whole number from 1 to {MAX_PIECE_RECORDS:,}",
}


class BatchConfig(Frozen):
    """`batch.yaml`: everything is optional.

    `files` are those that it commits, `source` an S3 prefix to read instead; `version` is of the model (the one in
    production when None); `piece_records` is about how many records one invocation takes.
    """

    schema_version: Literal[1] = 1
    files: Patterns | None = None
    source: Annotated[str, Field(pattern=S3_URI, max_length=1100, strict=True)] | None = None
    version: Annotated[Integer, Field(ge=1, lt=10**9)] | None = None
    probabilities: Literal["best", "all"] = "best"
    piece_records: Annotated[Integer, Field(ge=1, le=MAX_PIECE_RECORDS)] | None = None

    @property
    def source_bucket(self) -> str:
        """The bucket of `source`."""
        return (self.source or "").removeprefix("s3://").partition("/")[0]

    @property
    def source_prefix(self) -> str:
        """What the keys under `source` begin with."""
        return (self.source or "").removeprefix("s3://").partition("/")[2]


class UploadedFile(Frozen):
    """One object of the bucket of uploads, pinned by its S3 version."""

    key: str
    version: str | None = None


class BatchRequest(Frozen):
    """`request.json`: one job comes from one.

    `file` is the archive, table or list of URIs that started the job; None where `config_file` committed what lies
    beside it in `folder`, or names a source.
    """

    schema_version: Literal[1] = 1
    model: str
    job: str
    folder: str
    file: UploadedFile | None = None
    config: BatchConfig = BatchConfig()

    @property
    def keys(self) -> BatchKeys:
        """Where the job is kept."""
        return BatchKeys(self.model, self.job)

    def encode(self) -> bytes:
        """The canonical bytes of `request.json`."""
        return canonical_json(self.model_dump(mode="json"))


def read_request(artifacts: ObjectStore, keys: BatchKeys) -> BatchRequest:
    """The request of a job. Raises `NotFound`, or `BadInput` when it can't be read."""
    try:
        return BatchRequest.model_validate_json(artifacts.read(keys.request))
    except ValueError as error:
        raise BadInput(f"The request {keys.request!r} can't be read: {error}.", "Upload the data again.") from error


def parse_batch_config(data: bytes) -> BatchConfig:
    """Read `batch.yaml`. Raises `BadConfig`, which names the field and what it accepts."""
    known = ", ".join(ALLOWED)
    try:
        return BatchConfig.model_validate(read_yaml(data, CONFIG_FILE, known))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = str(first["loc"][0]) if first["loc"] else ""
        if first["type"] == "extra_forbidden":
            near = difflib.get_close_matches(field, ALLOWED, n=1, cutoff=0.5)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise BadConfig(f"{CONFIG_FILE}: unknown field {field!r}.", f"{hint}Known fields: {known}.") from error
        value = reprlib.repr(first["input"])
        raise BadConfig(f"{CONFIG_FILE}: {field}: {value} isn't allowed.", f"Use {ALLOWED[field]}.") from error
