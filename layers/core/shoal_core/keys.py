"""The key of every object in the artifacts bucket, in one place.

```
datasets/<name>/files/<sha256>.jsonl.gz                 at most 10,000 files of a set too large for request.json
                sources/<id>/source.json                what is read, and in which segments
                             segments.json              what the Map of the state machine goes over
                             started.json, export.json  a table's export that was asked for; its files, once it is done
                             segment-000.json           how far a segment has come, written after its parts
                             <sha256>.jsonl             rows of a table that was read
datasets/<name>/<version>/request.json                  what was uploaded, and the settings
                          plan.json                     preprocessing spec and work items
                          work-items.json, pack-items.json   what the Maps of the state machine go over
                          blocks/block-00000            a part of the source that planning re-packed to be read alone
                          labels/item-00000.safetensors the labels of one work item's files
                          pieces/piece-00000.json       one work item's outcome, written after its tensors
                          pieces/piece-00000.safetensors, .places.json
                          assignment.json, .safetensors which samples each final shard takes
                          packs/pack-00000.json         one final shard's outcome, written after its tensors
                          train/shard-00000.safetensors
                          report.json, report.html      what was kept, dropped and why
                          compared.json                 the version that drift is told against
                          manifest.json                 the index, written last
                          features/<digest>/            what a backbone made of the samples; digest: of both
                              train/shard-00000.json    one shard's features, written after them
                              train/shard-00000-000.safetensors
                              features.json             the index, written last
quarantine/<name>/<version>/item-00000.jsonl            bad samples with reasons; files as they were beside them
exports/<name>/<id>/AWSDynamoDB/<export>/               what DynamoDB exports of a table; deleted after a week
runs/<run>/request.json   what was asked for, of a run that no upload began
           settings.json  the resolved settings
           graphs/forward.onnx, graphs/step.onnx
           graphs/network.safetensors                   the forward graph for a SageMaker job
           job/sourcedir.tar.gz                         the program of a SageMaker job
           job/attempt-1.json, job/failure-1.json       how an attempt ended that another one follows; what ended it
           job/checkpoints/, job/<job>/output/model.tar.gz   of a user's own script: what it keeps, and what it made
           graphs/frozen.onnx, graphs/head.onnx         of a backbone: what is computed once, and what is trained on it
           graphs/tuning.onnx                           the step that trains the backbone's last blocks as well
           feature-items.json                           what the Map of Compute Features goes over
           checkpoints/checkpoint-000012.safetensors
           averages/average-000012.safetensors          the weights' moving average, where the run has one
           updates/round-000012/update-000.safetensors
           parts/round-000012/part-000.safetensors      how far a worker is that ran out of time
           lost/round-000012/lost-000.safetensors       what rounding lost of a small update, for the next one
           origin.json                                  the run whose weights a warm start takes
           rounds/round-000012.json                     metrics of one round, written after its checkpoint
           evaluation/shard-00000.json, evaluation.json
           evaluation/champion-000001/shard-00000.json  the version in production on the same samples
           model.onnx, candidates/int8-static.onnx      what training exported, and what is served instead of it
tunings/<id>/request.json                                what a search was asked for
             plan.json                                  the space that its trials are drawn from
             lanes.json                                 what the Map of the state machine goes over
             report.html, report.json                   its trials, written when it has ended
networks/<sha256>/network.onnx                          a user's own network, as it was uploaded
                  <dataset>/<version>/<settings>/forward.onnx, values.safetensors   fitted to a dataset version
                                                 network.json   what was decided, written last
models/<name>/<version>/model.onnx, spec.json
                        backbone.json                   what is known of a backbone
                        card.json, card.html, card.md         what is known of the version, written last
streams/<stream>/<shard>/after-<number>.jsonl            outcomes of the records after a sequence number, in order
streams/<queue>/<sha256>.jsonl                           outcomes of messages, named by their ids
streams/<place>/dead/<sequence>                          bytes of a dead record that are too many for a message
batches/<model>/<job>/request.json                      what was uploaded, and the settings
                      inputs.json                       the files, pinned
                      plan.json                         the model's version, and the pieces
                      work-items.json                   what the Map of Predict Batch goes over
                      blocks/block-00000                as of a dataset version
                      pieces/piece-00000.json           one piece's outcome, written after its output
                      output/part-00000.csv             its records with predictions; in the input's format
                      errors/part-00000.jsonl           the first of its records that couldn't be answered
                      predictions.csv                   all parts as one file
                      manifest.json                     the index, written last
```
"""

# ruff: noqa: D102 - the drawing above says what is under each key

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class BlockKeys(Protocol):
    """Keys of what planning re-packed so that each worker reads its own."""

    def block(self, block: int) -> str: ...


def script_key(dataset: str, script: str) -> str:
    """Where a user's own training script lies in the uploads bucket."""
    return f"scripts/{dataset}/{script}"


def listing_key(dataset: str, sha256: str) -> str:
    """One part of a listing, named by its content."""
    return f"datasets/{dataset}/files/{sha256}.jsonl.gz"


@dataclass(frozen=True)
class SourceKeys:
    """Keys of one reading of a source that isn't an upload."""

    dataset: str
    source_id: str

    @property
    def prefix(self) -> str:
        return f"datasets/{self.dataset}/sources/{self.source_id}/"

    @property
    def source(self) -> str:
        return f"{self.prefix}source.json"

    @property
    def segments(self) -> str:
        return f"{self.prefix}segments.json"

    @property
    def started(self) -> str:
        return f"{self.prefix}started.json"

    @property
    def export(self) -> str:
        return f"{self.prefix}export.json"

    @property
    def export_prefix(self) -> str:
        return f"exports/{self.dataset}/{self.source_id}"

    def segment(self, segment: int) -> str:
        return f"{self.prefix}segment-{segment:03d}.json"

    def rows(self, sha256: str) -> str:
        return f"{self.prefix}{sha256}.jsonl"


@dataclass(frozen=True)
class DatasetKeys:
    """Keys of one dataset version."""

    dataset: str
    version: str

    @property
    def prefix(self) -> str:
        return f"datasets/{self.dataset}/{self.version}/"

    @property
    def request(self) -> str:
        return f"{self.prefix}request.json"

    @property
    def plan(self) -> str:
        return f"{self.prefix}plan.json"

    @property
    def work_items(self) -> str:
        return f"{self.prefix}work-items.json"

    @property
    def pack_items(self) -> str:
        return f"{self.prefix}pack-items.json"

    @property
    def manifest(self) -> str:
        return f"{self.prefix}manifest.json"

    @property
    def report(self) -> str:
        return f"{self.prefix}report.json"

    @property
    def report_page(self) -> str:
        return f"{self.prefix}report.html"

    @property
    def compared(self) -> str:
        return f"{self.prefix}compared.json"

    @property
    def quarantine_prefix(self) -> str:
        return f"quarantine/{self.dataset}/{self.version}/"

    def quarantine(self, item: int | None) -> str:
        name = "plan" if item is None else f"item-{item:05d}"
        return f"{self.quarantine_prefix}{name}.jsonl"

    def quarantined(self, item: int, number: int, suffix: str) -> str:
        return f"{self.quarantine_prefix}item-{item:05d}/{number:04d}{suffix}"

    def value_hashes(self, item: int, clause: int) -> str:
        return f"{self.prefix}pieces/unique/piece-{item:05d}-{clause:03d}.safetensors"

    def block(self, block: int) -> str:
        return f"{self.prefix}blocks/block-{block:05d}"

    def item_labels(self, item: int) -> str:
        return f"{self.prefix}labels/item-{item:05d}.safetensors"

    def piece_index(self, item: int) -> str:
        return f"{self.prefix}pieces/piece-{item:05d}.json"

    def piece(self, item: int) -> str:
        return f"{self.prefix}pieces/piece-{item:05d}.safetensors"

    def places(self, item: int) -> str:
        return f"{self.prefix}pieces/piece-{item:05d}.places.json"

    @property
    def assignment(self) -> str:
        return f"{self.prefix}assignment.json"

    @property
    def assignment_tables(self) -> str:
        return f"{self.prefix}assignment.safetensors"

    def pack_index(self, shard: int) -> str:
        return f"{self.prefix}packs/pack-{shard:05d}.json"

    def shard(self, split: str, index: int, part: int = 0) -> str:
        name = f"shard-{index:05d}-{part:03d}" if part else f"shard-{index:05d}"
        return f"{self.prefix}{split}/{name}.safetensors"


@dataclass(frozen=True)
class FeatureKeys:
    """Keys of what a backbone made of one dataset version."""

    dataset: str
    version: str
    digest: str

    @property
    def prefix(self) -> str:
        return f"datasets/{self.dataset}/{self.version}/features/{self.digest}/"

    @property
    def index(self) -> str:
        return f"{self.prefix}features.json"

    def shard_index(self, split: str, index: int) -> str:
        return f"{self.prefix}{split}/shard-{index:05d}.json"

    def shard(self, split: str, index: int, part: int) -> str:
        return f"{self.prefix}{split}/shard-{index:05d}-{part:03d}.safetensors"


@dataclass(frozen=True)
class RunKeys:
    """Keys of one run."""

    run_id: str

    @property
    def prefix(self) -> str:
        return f"runs/{self.run_id}/"

    @property
    def request(self) -> str:
        return f"{self.prefix}request.json"

    @property
    def settings(self) -> str:
        return f"{self.prefix}settings.json"

    @property
    def origin(self) -> str:
        return f"{self.prefix}origin.json"

    @property
    def forward_graph(self) -> str:
        return f"{self.prefix}graphs/forward.onnx"

    @property
    def step_graph(self) -> str:
        return f"{self.prefix}graphs/step.onnx"

    @property
    def frozen_graph(self) -> str:
        return f"{self.prefix}graphs/frozen.onnx"

    @property
    def head_graph(self) -> str:
        return f"{self.prefix}graphs/head.onnx"

    @property
    def tuning_graph(self) -> str:
        return f"{self.prefix}graphs/tuning.onnx"

    def descent_of(self, graph: str) -> str:
        return f"{graph.removesuffix('.onnx')}-descent.onnx"

    @property
    def feature_items(self) -> str:
        return f"{self.prefix}feature-items.json"

    @property
    def evaluation(self) -> str:
        return f"{self.prefix}evaluation/evaluation.json"

    @property
    def model(self) -> str:
        return f"{self.prefix}model.onnx"

    @property
    def network(self) -> str:
        return f"{self.prefix}graphs/network.safetensors"

    @property
    def job(self) -> str:
        return f"{self.prefix}job"

    @property
    def job_code(self) -> str:
        return f"{self.job}/sourcedir.tar.gz"

    def job_attempt(self, attempt: int) -> str:
        return f"{self.job}/attempt-{attempt}.json"

    def job_failure(self, attempt: int) -> str:
        return f"{self.job}/failure-{attempt}.json"

    def job_output(self, name: str) -> str:
        return f"{self.job}/{name}/output/model.tar.gz"

    def candidate(self, name: str) -> str:
        return f"{self.prefix}candidates/{name}.onnx"

    @property
    def optimization(self) -> str:
        return f"{self.prefix}optimization.json"

    def checkpoint(self, round_: int) -> str:
        return f"{self.prefix}checkpoints/checkpoint-{round_:06d}.safetensors"

    def average(self, round_: int) -> str:
        return f"{self.prefix}averages/average-{round_:06d}.safetensors"

    def update(self, round_: int, worker: int) -> str:
        return f"{self.prefix}updates/round-{round_:06d}/update-{worker:03d}.safetensors"

    def part(self, round_: int, worker: int) -> str:
        return f"{self.prefix}parts/round-{round_:06d}/part-{worker:03d}.safetensors"

    def lost(self, round_: int, worker: int) -> str:
        return f"{self.prefix}lost/round-{round_:06d}/lost-{worker:03d}.safetensors"

    def round(self, round_: int) -> str:
        return f"{self.prefix}rounds/round-{round_:06d}.json"

    def shard_evaluation(self, shard: int) -> str:
        return f"{self.prefix}evaluation/shard-{shard:05d}.json"

    def champion_shard(self, version: int, shard: int) -> str:
        return f"{self.prefix}evaluation/champion-{version:06d}/shard-{shard:05d}.json"


@dataclass(frozen=True)
class TuningKeys:
    """Keys of one search."""

    tuning_id: str

    @property
    def prefix(self) -> str:
        return f"tunings/{self.tuning_id}/"

    @property
    def request(self) -> str:
        return f"{self.prefix}request.json"

    @property
    def plan(self) -> str:
        return f"{self.prefix}plan.json"

    @property
    def lanes(self) -> str:
        return f"{self.prefix}lanes.json"

    def report(self, form: str) -> str:
        return f"{self.prefix}report.{form}"


@dataclass(frozen=True)
class FittedKeys:
    """Keys of a network that was fitted to a dataset version."""

    prefix: str

    @property
    def forward(self) -> str:
        return f"{self.prefix}forward.onnx"

    @property
    def values(self) -> str:
        return f"{self.prefix}values.safetensors"

    @property
    def index(self) -> str:
        return f"{self.prefix}network.json"


@dataclass(frozen=True)
class NetworkKeys:
    """Keys of one network that a user brought, in the artifacts bucket; `upload` is its key in the uploads bucket."""

    sha256: str

    @property
    def upload(self) -> str:
        return f"networks/{self.sha256}.onnx"

    @property
    def network(self) -> str:
        return f"networks/{self.sha256}/network.onnx"

    def fitted(self, dataset: str, version: str, settings: str) -> FittedKeys:
        return FittedKeys(f"networks/{self.sha256}/{dataset}/{version}/{settings}/")


@dataclass(frozen=True)
class ModelKeys:
    """Keys of one model version."""

    model: str
    version: int

    @property
    def prefix(self) -> str:
        return f"models/{self.model}/{self.version}/"

    @property
    def onnx(self) -> str:
        return f"{self.prefix}model.onnx"

    @property
    def backbone(self) -> str:
        return f"{self.prefix}backbone.json"

    @property
    def pipeline(self) -> str:
        return f"{self.prefix}pipeline.json"

    def card(self, form: str) -> str:
        return f"{self.prefix}card.{form}"

    @property
    def spec(self) -> str:
        return f"{self.prefix}spec.json"


@dataclass(frozen=True)
class BatchKeys:
    """Keys of one batch job."""

    model: str
    job: str

    @property
    def prefix(self) -> str:
        return f"batches/{self.model}/{self.job}/"

    @property
    def request(self) -> str:
        return f"{self.prefix}request.json"

    @property
    def inputs(self) -> str:
        return f"{self.prefix}inputs.json"

    @property
    def plan(self) -> str:
        return f"{self.prefix}plan.json"

    @property
    def work_items(self) -> str:
        return f"{self.prefix}work-items.json"

    @property
    def manifest(self) -> str:
        return f"{self.prefix}manifest.json"

    def block(self, block: int) -> str:
        return f"{self.prefix}blocks/block-{block:05d}"

    def piece_index(self, piece: int) -> str:
        return f"{self.prefix}pieces/piece-{piece:05d}.json"

    def part(self, piece: int, suffix: str) -> str:
        return f"{self.prefix}output/part-{piece:05d}{suffix}"

    def errors(self, piece: int) -> str:
        return f"{self.prefix}errors/part-{piece:05d}.jsonl"

    def predictions(self, suffix: str) -> str:
        return f"{self.prefix}predictions{suffix}"


@dataclass(frozen=True)
class StreamKeys:
    """Keys of one shard, `<stream>/<shard>`, or of one queue, by its name."""

    place: str

    @property
    def prefix(self) -> str:
        return f"streams/{self.place}/"

    def after(self, sequence: str | None) -> str:
        # A sequence number of Kinesis has up to 128 digits; 64 are more than it has had, and keys sort as numbers do.
        return f"{self.prefix}after-{(sequence or '0').zfill(64)}.jsonl"

    def of(self, digest: str) -> str:
        return f"{self.prefix}{digest}.jsonl"

    def dead(self, sequence: str) -> str:
        return f"{self.prefix}dead/{sequence}"
