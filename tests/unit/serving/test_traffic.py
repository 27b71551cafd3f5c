"""Versions in memory that share requests: a canary that fails costs nobody an answer; a new version costs no wait."""

from __future__ import annotations

import base64
import dataclasses
import threading
import time
from collections import Counter
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from shoal_core.data.canonical import canonical_json
from shoal_core.errors import BadRequest, NotFound, Unavailable
from shoal_core.keys import ModelKeys
from shoal_core.registry.routing import Aliases, Limits, Shadow, start_canary, start_split
from shoal_core.serving import sessions
from shoal_core.serving.sessions import ModelCache
from shoal_core.serving.shadowing import ShadowCall, _alike, compare
from shoal_core.serving.traffic import Traffic
from tests.support.stores import MemoryStore
from tests.unit.training.datasets import table_spec
from tests.unit.training.networks import exported_graph

FEATURES, CLASSES = 4, 3
MOMENT = "2026-11-21T08:00:00+00:00"
KEYS = [str(number) for number in range(200)]


def model(seed: int) -> bytes:
    random = np.random.default_rng(seed)
    parameters = {"weight": random.normal(size=(FEATURES, CLASSES)), "bias": random.normal(size=CLASSES)}
    return exported_graph(FEATURES, CLASSES, "classification", parameters)


@dataclass
class Catalog:
    known: Aliases = field(default_factory=lambda: Aliases(1))
    asked: int = 0

    def aliases(self, model: str) -> Aliases:
        self.asked += 1
        if model != "m":
            raise NotFound(f"Model {model!r} doesn't exist.")
        return self.known


@dataclass
class Recorded:
    answers: list[tuple[int, bool]] = field(default_factory=list)
    canary_failures: list[int] = field(default_factory=list)

    def answered(self, model: str, version: int, milliseconds: float, failed: bool) -> None:
        assert milliseconds >= 0
        self.answers.append((version, failed))

    def canary_failed(self, model: str, version: int) -> None:
        self.canary_failures.append(version)


class Slow(MemoryStore):
    """A store in which one key takes as long as the test wants."""

    def __init__(self, objects: dict[str, bytes], key: str) -> None:
        super().__init__(objects)
        self._key, self.go = key, threading.Event()

    def read(self, key: str, version: str | None = None, etag: str | None = None) -> bytes:
        if key == self._key:
            assert self.go.wait(10)
        return super().read(key, version, etag)


def files() -> dict[str, bytes]:
    spec = canonical_json(table_spec().model_dump(mode="json"))
    found = {}
    for version in (1, 2):
        keys = ModelKeys("m", version)
        found |= {keys.onnx: model(version), keys.spec: spec}
    return found


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def cache(catalog: Catalog, store: MemoryStore | None = None, clock: Clock | None = None) -> ModelCache:
    return ModelCache(store or MemoryStore(files()), catalog, 1769, clock or Clock())


def served(traffic: Traffic, key: str, run: Any = None, version: str | None = None) -> int:
    choice = traffic.choice("m", key, version)
    answer = traffic.answer("m", choice, run or (lambda found: found.version))
    return int(answer)


def with_canary(percent: float = 40) -> Aliases:
    return start_canary(Aliases(1), 2, [percent, 100], 60, Limits(), MOMENT)


def loaded(models: ModelCache) -> ModelCache:
    for version in (1, 2):
        models.version("m", version)
    return models


def test_a_canary_gets_its_share_and_every_answer_is_recorded():
    recorded = Recorded()
    traffic = Traffic(loaded(cache(Catalog(with_canary()))), recorded)
    versions = Counter(served(traffic, key) for key in KEYS)
    assert set(versions) == {1, 2} and versions[2] / len(KEYS) == pytest.approx(0.4, abs=0.12)
    assert Counter(version for version, _ in recorded.answers) == versions
    assert not any(failed for _, failed in recorded.answers)


@pytest.mark.parametrize("error", [RuntimeError("out of bounds"), Unavailable("gone."), BadRequest("no such column.")])
def test_what_a_canary_cant_answer_production_does(error):
    def run(found: Any) -> int:
        if found.version == 2:
            raise error
        return found.version

    recorded = Recorded()
    traffic = Traffic(loaded(cache(Catalog(with_canary()))), recorded)
    assert {served(traffic, key, run) for key in KEYS} == {1}
    failures = [version for version, failed in recorded.answers if failed]
    assert set(failures) == {2}
    assert recorded.canary_failures == failures
    assert len(recorded.answers) == len(KEYS) + len(failures)


def test_a_bad_request_is_nobodys_fault():
    def run(found: Any) -> int:
        raise BadRequest("The request has no body.")

    recorded = Recorded()
    traffic = Traffic(loaded(cache(Catalog(with_canary(99)))), recorded)
    for key in KEYS[:20]:
        with pytest.raises(BadRequest):
            served(traffic, key, run)
    assert not recorded.canary_failures
    assert not any(failed for _, failed in recorded.answers)


def test_a_fault_of_production_is_raised_and_counted():
    def run(found: Any) -> int:
        raise RuntimeError("broken")

    recorded = Recorded()
    with pytest.raises(RuntimeError):
        served(Traffic(cache(Catalog()), recorded), "key", run)
    assert recorded.answers == [(1, True)]


def test_a_canary_that_cant_be_loaded_costs_nobody_an_answer():
    store = MemoryStore({**files(), ModelKeys("m", 2).onnx: b"no model"})
    recorded = Recorded()
    traffic = Traffic(cache(Catalog(with_canary(99)), store), recorded)
    deadline = time.monotonic() + 10
    while not recorded.canary_failures:  # it is loaded beside the requests
        assert {served(traffic, key) for key in KEYS[:50]} == {1}
        assert time.monotonic() < deadline


def test_the_version_before_answers_while_the_new_one_loads():
    store, clock, catalog = Slow(files(), ModelKeys("m", 2).onnx), Clock(), Catalog()
    traffic = Traffic(cache(catalog, store, clock), Recorded())
    assert served(traffic, "a") == 1
    catalog.known = Aliases(2)
    clock.now += sessions.ALIAS_SECONDS + 0.1
    assert [served(traffic, key) for key in KEYS[:5]] == [1] * 5
    store.go.set()
    while not next(iter(traffic.models._loads.values()), (0, Future()))[1].done():
        pass
    assert served(traffic, "a") == 2


def test_a_load_that_takes_too_long_is_waited_for():
    store, clock, catalog = Slow(files(), ModelKeys("m", 2).onnx), Clock(), Catalog()
    traffic = Traffic(cache(catalog, store, clock), Recorded())
    served(traffic, "a")
    catalog.known = Aliases(2)
    clock.now += sessions.ALIAS_SECONDS + 0.1
    assert served(traffic, "a") == 1
    clock.now += sessions.SWITCH_SECONDS + 0.1
    threading.Timer(0.05, store.go.set).start()
    assert served(traffic, "a") == 2


def test_after_a_rest_the_version_before_answers_no_more():
    store, clock, catalog = Slow(files(), ModelKeys("m", 2).onnx), Clock(), Catalog()
    traffic = Traffic(cache(catalog, store, clock), Recorded())
    assert served(traffic, "a") == 1
    catalog.known = Aliases(2)
    clock.now += 60
    threading.Timer(0.05, store.go.set).start()
    assert served(traffic, "a") == 2


def test_aliases_are_asked_for_every_few_seconds_only():
    clock, catalog = Clock(), Catalog()
    traffic = Traffic(cache(catalog, clock=clock), Recorded())
    for _ in range(10):
        served(traffic, "a")
    assert catalog.asked == 1
    clock.now += sessions.ALIAS_SECONDS + 0.1
    served(traffic, "a")
    assert catalog.asked == 2
    with pytest.raises(NotFound):
        traffic.choice("other", "a", None)


def test_a_version_or_an_alias_can_be_asked_for():
    catalog = Catalog(dataclasses.replace(with_canary(1), named={"staging": 2}))
    traffic = Traffic(cache(catalog), Recorded())
    assert [served(traffic, "a", version=version) for version in ("1", "2", "staging", "canary", "production")] == [
        1, 2, 2, 2, 1,
    ]  # fmt: skip
    for wrong in ("shadow", "0x1", "-1", "9" * 12):
        with pytest.raises(NotFound, match="no version"):
            traffic.choice("m", "a", wrong)


def test_version_0_is_one_that_isnt_there():
    recorded = Recorded()
    with pytest.raises(NotFound, match="no version 0"):
        served(Traffic(loaded(cache(Catalog())), recorded), "a", version="0")
    assert not recorded.answers


def test_a_split_is_sticky_and_doesnt_fall_back():
    def run(found: Any) -> int:
        if found.version == 2:
            raise RuntimeError("broken")
        return found.version

    traffic = Traffic(cache(Catalog(start_split(Aliases(1), {1: 1, 2: 1}))), Recorded())
    for key in KEYS[:20]:
        assert len({served(traffic, key) for _ in range(3)}) == 1
    broken = next(key for key in KEYS if served(traffic, key) == 2)
    with pytest.raises(RuntimeError):
        served(traffic, broken, run)


def test_a_shadow_is_compared_on_the_same_request():
    models = cache(Catalog(dataclasses.replace(Aliases(1), shadow=Shadow(2))))
    assert models.choose("m", "a").shadow == 2
    body = '{"instances": [{"f0": 1, "f1": 2, "f2": 3, "f3": 4}, {"f0": -3, "f1": 1, "f2": 0, "f3": 2}]}'
    names = [column.name for column in table_spec().table.numbers]
    for index, name in enumerate(names):
        body = body.replace(f'"f{index}"', f'"{name}"')
    call = ShadowCall(
        model="m", production=1, version=1, route="predict", body=base64.b64encode(body.encode()).decode(),
        content_type="application/json",
    )  # fmt: skip
    same = compare(models, call)
    assert same is not None and (same.failed, same.agreement) == (False, 1.0)
    other = compare(models, call.model_copy(update={"version": 2}))
    assert other is not None and not other.failed and 0 <= other.agreement <= 1
    missing = compare(models, call.model_copy(update={"version": 3}))
    assert missing is not None and missing.failed
    assert compare(models, call.model_copy(update={"body": base64.b64encode(b"{").decode()})) is None
    tensors = {"name": "numbers", "datatype": "FP32", "shape": [2, FEATURES], "data": list(range(2 * FEATURES))}
    raw = base64.b64encode(canonical_json({"inputs": [tensors]})).decode()
    infer = compare(models, call.model_copy(update={"route": "infer", "body": raw}))
    assert infer is not None and infer.agreement == 1.0


@pytest.mark.parametrize(
    ("given", "alike"),
    [([1.0, 2.005], True), ([1.0, 2.1], False), ([1.0], False), ([1.0, 2.0, 3.0], False), (1.0, False), (None, False)],
)
def test_vectors_agree_number_by_number(given: object, alike: bool) -> None:
    assert _alike([1.0, 2.0], given) is alike
    assert _alike([[1.0, 2.0]], [given]) is alike
