import json

import pytest
from click.testing import CliRunner

from shoal.cli import cli

REPORT = {
    "dataset": "pets",
    "version": "v2",
    "task": "classification",
    "kept": 1200,
    "dropped": 4,
    "duplicates": 1,
    "samples": {"train": 1000, "validation": 100, "test": 100},
    "settings": {"task": "classification"},
    "expectations": [
        {
            "what": "age: at least 0",
            "held": False,
            "broken": 2,
            "checked": 1200,
            "examples": [{"file": "t.csv", "place": "line 3", "value": "-4"}],
        },
        {"what": "at least 10 samples", "held": True, "broken": 0, "checked": 1200, "examples": []},
    ],
    "drift": {
        "version": "v1",
        "columns": [
            {"name": "age", "level": "large", "psi": 0.31, "reasons": ["the values lie differently (PSI 0.31)"]},
            {"name": "sex", "level": "none", "psi": 0.01, "reasons": []},
        ],
        "columns_added": ["height"],
        "columns_lost": [],
    },
    "flags": [{"column": "code", "kind": "leaking", "reason": "It tells the target."}],
    "near_duplicates": {"samples": 3, "dropped": False},
    "quarantine": {"samples": 2, "bytes": 10, "left_out": 0},
}
SAMPLES = [
    {"file": "pets.zip", "place": "cats/1.png", "code": "bad_image", "reason": "Cut short.", "fix": "Replace it."},
    {"file": "pets.zip", "place": "cats/2.png", "code": "bad_image", "reason": "Cut short.", "fix": "Replace it."},
    {"file": "pets.zip", "place": "cats/3.png", "code": "bad_image", "reason": "Empty.", "fix": "", "key": "q/i/3.png"},
]


@pytest.fixture(autouse=True)
def pets(cloud, api, tmp_path, monkeypatch):
    monkeypatch.setattr("shoal._runs.POLL_SECONDS", 0.01)
    monkeypatch.setattr("shoal.client.POLL_SECONDS", 0.01)
    path = tmp_path / "pets.zip"
    path.write_bytes(b"1")
    assert shoal("push", str(path)).exit_code == 0
    api.report, api.quarantine = REPORT, SAMPLES


def shoal(*arguments):
    return CliRunner().invoke(cli, arguments, catch_exceptions=False)


def test_the_report_tells_expectations_drift_and_columns():
    told = shoal("report", "pets").stdout
    for text in (
        "dropped 4, duplicates 1, near duplicates 3 (kept)",
        "age: at least 0      broken  2 of 1,200  line 3: -4",
        "since version v1: 1 of 2 columns changed",
        "age     large   0.310  the values lie differently (PSI 0.31)",
        "new columns: height",
        "code    leaking  It tells the target.",
        "2 bad samples are in quarantine: shoal quarantine pets",
    ):
        assert text in told, told
    assert told in shoal("dataset", "pets").stdout
    assert json.loads(shoal("report", "pets", "--json").stdout) == REPORT


def test_the_page_is_written_or_opened(tmp_path, monkeypatch):
    file = tmp_path / "r.html"
    assert f"written to {file}" in shoal("report", "pets", "--html", str(file)).stdout
    assert file.read_bytes().startswith(b"<!doctype html>")
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda uri: opened.append(uri) or True)
    assert shoal("report", "pets", "--open").exit_code == 0
    assert opened[0].startswith("file://") and opened[0].endswith("/report.html")
    result = shoal("report", "pets", "--html", str(tmp_path / "none" / "r.html"))
    assert result.exit_code == 2 and "can't be written" in result.stderr


def test_the_quarantine_is_listed_and_saved(tmp_path):
    told = shoal("quarantine", "pets").stdout
    assert "cats/2.png  bad_image  Cut short.  Replace it." in told
    document = json.loads(shoal("quarantine", "pets", "--json").stdout)
    assert (document["samples"], document["saved"]) == (SAMPLES, [])
    folder = tmp_path / "bad"
    told = shoal("quarantine", "pets", "--download", str(folder)).stdout
    assert f"shoal replay pets {folder}" in told
    assert (folder / "cats/3.png").read_bytes() == b"bytes of i/3.png"


def test_an_empty_quarantine_says_so(api):
    api.quarantine = []
    assert "No bad samples are kept." in shoal("quarantine", "pets").stdout


def test_a_replay_is_followed_to_its_end(tmp_path, api):
    mended = tmp_path / "3.png"
    mended.write_bytes(b"good")
    told = shoal("replay", "pets", str(mended)).stdout
    assert "run pets-" in told and "test: accuracy 0.9812" in told
    document = json.loads(shoal("replay", "pets", "--no-watch", "--json").stdout)
    assert document["source"][0]["key"].endswith("/replay.yaml")
    api.script = [{"status": "failed", "failure": {"stage": "s", "error": "e", "reason": "r", "fix": "f"}}]
    assert shoal("replay", "pets", "--json").exit_code == 1


def test_what_isnt_there_is_two(tmp_path):
    for arguments in (("report", "none"), ("quarantine", "none"), ("replay", "none"), ("replay", "pets", "nowhere")):
        assert shoal(*arguments).exit_code == 2
