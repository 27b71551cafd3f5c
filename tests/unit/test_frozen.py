"""The base of settings, events and records."""

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from pydantic import BaseModel, Field, ValidationError

from shoal_core.frozen import Frozen


class Part(Frozen):
    name: str
    size: int = Field(ge=0)


class Whole(Frozen):
    parts: tuple[Part, ...] = ()


def test_unknown_fields_and_changes_are_refused():
    part = Part(name="a", size=1)
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Part.model_validate({"name": "a", "size": 1, "colour": "red"})
    with pytest.raises(ValidationError, match="frozen"):
        part.size = 2


def test_a_model_is_built_by_its_first_use_and_by_one_thread_at_a_time(monkeypatch):
    build, building, most = BaseModel.model_rebuild.__func__, [], []

    def slowly(cls, **options):
        building.append(cls)
        most.append(len(building))
        time.sleep(0.01)
        try:
            return build(cls, **options)
        finally:
            building.remove(cls)

    monkeypatch.setattr(BaseModel, "model_rebuild", classmethod(slowly))
    together = Barrier(8)

    class Labelled(Frozen):
        whole: Whole
        label: str

    def read():
        together.wait()
        return Labelled.model_validate({"whole": {"parts": [{"name": "a", "size": 1}]}, "label": "b"})

    assert not Labelled.__pydantic_complete__
    with ThreadPoolExecutor(8) as pool:
        found = [future.result() for future in [pool.submit(read) for _ in range(8)]]
    assert Labelled.__pydantic_complete__
    assert {(type(each), each.whole.parts[0].size) for each in found} == {(Labelled, 1)}
    assert most and max(most) == 1
