"""Jobs that are killed, resumed, done twice and at once: the same objects; and answers that don't depend on others."""

from __future__ import annotations

import gzip
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_core.data.cutting import MAX_ITEM_BYTES, MAX_ITEMS
from shoal_core.errors import BadConfig, BadDataset, NotFound, TooLarge, Unavailable
from shoal_core.serving.batches import planning
from shoal_core.serving.batches.answering import Answering
from shoal_core.serving.batches.counting import cut_pieces
from shoal_core.serving.batches.request import BatchRequest, parse_batch_config
from tests.support.stores import MemoryStore
from tests.unit.serving.batches.jobs import KEYS, MODELS, Job, graph, served
from tests.unit.serving.batches.test_files import images, tarred
from tests.unit.serving.batches.test_tables import rows, table

JOBS = {
    "table": ("blobs", {"data.csv.gz": gzip.compress(table(rows(200)))}),
    "images": ("drawings", {"photos.tar.gz": tarred(images(60), "w:gz")}),
}


class Dying(MemoryStore):
    """A store whose worker dies at its n-th write."""

    left = 10**9

    def write(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> None:
        if self.left == 0:
            raise Unavailable("killed")
        self.left -= 1
        super().write(key, data, content_type)


def made(name: str) -> Job:
    model, files = JOBS[name]
    return Job(model, files, piece_records=20)


def objects(job: Job) -> dict[str, bytes]:
    return {key: data for key, data in job.artifacts.objects.items() if key.startswith(KEYS.prefix)}


@pytest.mark.parametrize("name", JOBS)
def test_a_worker_killed_at_any_write_changes_no_byte(name: str) -> None:
    reference = made(name)
    reference.run()
    for write in range(len(objects(reference)) + 1):
        job = made(name)
        job.artifacts = Dying(job.artifacts.objects)
        job.artifacts.left = write
        with pytest.raises(Unavailable) if write < len(objects(reference)) else _nothing():
            job.run()
        job.artifacts.left = 10**9
        job.run()
        assert objects(job) == objects(reference)


class _nothing:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def test_pieces_done_twice_late_and_at_once_change_nothing() -> None:
    job = made("images")
    job.run()
    before = objects(job)
    for key in [key for key in job.artifacts.objects if "/pieces/" in key or key.endswith("manifest.json")]:
        del job.artifacts.objects[key]
    workers = [threading.Thread(target=job.predict, args=(piece,)) for piece in range(job.plan()) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    job.commit()
    assert objects(job) == before


def test_a_commit_without_all_pieces_is_refused() -> None:
    job = made("images")
    job.plan()
    job.predict(0)
    with pytest.raises(NotFound, match="Piece 1 of job 'job' hasn't been answered"):
        job.commit()
    with pytest.raises(NotFound, match="has no piece 99"):
        job.predict(99)


def test_two_jobs_of_the_same_files_have_one_digest_and_another_version_has_another() -> None:
    first, second = made("images"), made("images")
    digest = first.run().digest
    assert second.run().digest == digest == second.commit().own_digest()
    other = made("images")
    other.uploads.objects["batch/model/job/photos.tar.gz"] = tarred(images(61), "w:gz")
    assert other.run().digest != digest


def test_the_version_is_pinned_when_the_job_is_planned() -> None:
    job = made("images")
    job.plan()
    job.alias = lambda model, alias="production": 2  # type: ignore[method-assign]
    assert job.run().model.version == 1


@pytest.mark.parametrize("name", MODELS)
def test_an_answer_does_not_depend_on_what_is_answered_with_it(name: str) -> None:
    spec = MODELS[name][0]
    rng = np.random.default_rng(3)
    tensors = {}
    for tensor, shape in spec.tensor_shapes().items():
        size = (300, *shape)
        kinds = {
            "image": rng.integers(0, 256, size).astype(np.uint8),
            "tokens": rng.integers(0, 8, size).astype(np.int32),
        }
        kinds["categories"] = rng.integers(0, 5, size).astype(np.int64)
        tensors[tensor] = kinds[tensor] if tensor in kinds else rng.normal(size=size).astype(np.float32)
    answering = Answering(served(name), planning._run_rows(spec, graph(name)), True)
    whole = answering.answer(tensors, 300)
    for start, stop in ((0, 1), (5, 6), (7, 263), (250, 300)):
        part = {tensor: values[start:stop] for tensor, values in tensors.items()}
        assert answering.answer(part, stop - start) == whole[start:stop]


def test_a_model_that_mixes_rows_answers_them_one_by_one() -> None:
    assert planning._run_rows(MODELS["blobs"][0], b"...DynamicQuantizeLinear...") == 1
    assert planning._run_rows(MODELS["blobs"][0], b"") == planning.MAX_RUN_ROWS


def test_the_settings_are_checked() -> None:
    assert parse_batch_config(b"").probabilities == "best"
    assert parse_batch_config(b"files: '*.csv'\nversion: 3\n").version == 3
    for data, reason in (
        (b"verison: 1", "Did you mean 'version'"),
        (b"probabilities: some", "best .of the answer alone. or all"),
        (b"[1]", "holds a list"),
        (b"source: http://x", "s3://BUCKET/PREFIX"),
    ):
        with pytest.raises(BadConfig, match=reason):
            parse_batch_config(data)


REQUEST = BatchRequest(model="m", job="j", folder="batch/m/j/")


@settings(max_examples=50, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(0, 20), st.integers(1, 64 * 1024**2)), min_size=1, max_size=200),
    most=st.integers(1, 50),
)
def test_pieces_hold_every_entry_once_and_one_file_each(sizes: list[tuple[int, int]], most: int) -> None:
    sources, weights = [source for source, _ in sorted(sizes)], [weight for _, weight in sorted(sizes)]
    pieces = cut_pieces(REQUEST, sources, weights, len(weights), most)
    assert [place for start, stop in pieces for place in range(start, stop)] == list(range(len(weights)))
    assert all(len(set(sources[start:stop])) == 1 for start, stop in pieces)
    assert len(pieces) <= MAX_ITEMS


def test_a_job_too_large_for_one_map_is_refused() -> None:
    with pytest.raises(TooLarge, match="more than the 112 GiB that 900 pieces hold"):
        cut_pieces(REQUEST, [0, 0], [MAX_ITEMS * MAX_ITEM_BYTES, 1], 2, 1)
    with pytest.raises(TooLarge, match="Upload at most 900 as one job"):
        cut_pieces(REQUEST, range(901), [1] * 901, 901, 1)
    with pytest.raises(BadDataset, match="holds no records"):
        cut_pieces(REQUEST, [], [], 0, 1)
    assert len(cut_pieces(REQUEST, range(900), [10**6] * 900, 10**9, 1)) == 900
