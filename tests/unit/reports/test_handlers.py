"""Reports, drift, quarantine and replay through the real handlers, up to the committed dataset version."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.aws import invoke, stack
from tests.support.pipeline import http_event, ingest, prepare_data, run_of
from tests.unit.data.builders import grey_png, image_members, zip_of


def get(path: str, **query: str) -> dict[str, Any]:
    return invoke("api", http_event("GET", path, queryStringParameters=query))


@pytest.fixture(scope="module")
def runs() -> Iterator[list[dict[str, str]]]:
    """A set of images with two bad ones, and its replay with one of them mended."""
    members = image_members(per_class=20)
    members["digits/0/000.png"] = b"no image"
    members["digits/9/001.png"] = b"\x89PNG cut short"
    with stack():
        first = run_of(ingest("datasets/pets/pets.zip", zip_of(members)))
        prepare_data(first)
        ingest("datasets/pets/replay/abc/digits/0/000.png", grey_png(99))
        outcome = ingest("datasets/pets/replay/abc/replay.yaml", f"version: '{first['version']}'".encode())
        second = run_of(outcome)
        prepare_data(second)
        yield [first, second]


def path_of(run: dict[str, str]) -> str:
    return f"/datasets/pets/versions/{run['version']}"


def test_the_page_comes_with_a_strict_policy(runs: list[dict[str, str]]) -> None:
    answer = get(f"{path_of(runs[0])}/report.html")
    assert answer["statusCode"] == 200 and not answer["isBase64Encoded"]
    assert answer["body"].startswith("<!doctype html>") and answer["body"].count("data:image/png") == 24
    headers = answer["headers"]
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; img-src data:;")
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_the_quarantine_is_listed_in_pages_and_given_back(runs: list[dict[str, str]]) -> None:
    path = f"{path_of(runs[0])}/quarantine"
    page = json.loads(get(path, limit="1")["body"])
    rest = json.loads(get(path, after=page["after"])["body"])
    first, second = (*page["samples"], *rest["samples"])
    assert [first["place"], second["place"], rest["after"]] == ["digits/0/000.png", "digits/9/001.png", None]
    assert first["code"] == "bad_image" and first["fix"]
    item, name = first["key"].split("/")[-2:]
    answer = get(f"{path}/{item}/{name}")
    assert answer["isBase64Encoded"] and base64.b64decode(answer["body"]) == b"no image"
    assert answer["headers"]["Content-Disposition"] == 'attachment; filename="item-00000-0000.png"'


@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        ("/report.html", {}, 404),
        ("/quarantine", {}, 404),
        ("/quarantine/item-00000/0000.png", {}, 404),
    ],
)
def test_what_isnt_there_is_a_problem(runs: list[dict[str, str]], path: str, query: Any, status: int) -> None:
    answer = get(f"/datasets/pets/versions/none{path}", **query)
    assert answer["statusCode"] == status and json.loads(answer["body"])["fix"]


@pytest.mark.parametrize("query", [{"limit": "0"}, {"limit": "1001"}, {"after": "x"}])
def test_a_bad_query_is_refused(runs: list[dict[str, str]], query: dict[str, str]) -> None:
    assert get(f"{path_of(runs[0])}/quarantine", **query)["statusCode"] == 400


def test_a_replay_is_a_new_version_with_the_mended_sample(runs: list[dict[str, str]]) -> None:
    before, after = (json.loads(get(f"{path_of(run)}/report")["body"]) for run in runs)
    assert runs[0]["version"] != runs[1]["version"]
    assert (before["kept"], after["kept"]) == (78, 79)
    assert after["drift"]["version"] == runs[0]["version"] and before["drift"] is None
    assert {column["level"] for column in after["drift"]["columns"]} == {"none"}


def test_a_repeated_commit_compares_with_the_same_version(runs: list[dict[str, str]]) -> None:
    before = get(f"{path_of(runs[0])}/report")["body"]
    invoke("commit_dataset", runs[0])
    assert get(f"{path_of(runs[0])}/report")["body"] == before


def test_a_table_takes_mended_rows_beside_it(runs: list[dict[str, str]]) -> None:
    rows = [f"{number % 7},{number * 3 % 11},{'yes' if number % 7 > 3 else 'no'}" for number in range(80)]
    rows[10] += ",more"
    first = run_of(ingest("datasets/t/t.csv", "\n".join(["a,b,label", *rows]).encode()))
    prepare_data(first)
    ingest("datasets/t/replay/r1/t-mended.csv", b"a,b,label\n500,400,yes\n")
    replay = ingest("datasets/t/replay/r1/replay.yaml", f"version: '{first['version']}'".encode())
    assert replay["status"] == "started"
    prepare_data(run_of(replay))
    reports = [get(f"/datasets/t/versions/{run['version']}/report")["body"] for run in (first, run_of(replay))]
    before, after = (json.loads(report)["kept"] for report in reports)
    assert after == before + 1
