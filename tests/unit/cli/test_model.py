import json

import pytest
from click.testing import CliRunner

from shoal.cli import cli


def shoal(*arguments, **options):
    return CliRunner().invoke(cli, arguments, catch_exceptions=False, **options)


def test_models_are_listed(cloud):
    assert shoal("models").stdout.splitlines()[1].split()[:4] == ["digits", "1", "1", "classification"]
    assert json.loads(shoal("models", "--json").stdout)["models"][0]["production"] == 1


def test_images_are_predicted_in_order(cloud, api, tmp_path):
    api.labels = ["7", "8"]
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"png")
    result = shoal("predict", "digits", str(tmp_path / "a.png"), str(tmp_path / "b.png"))
    assert [line.split() for line in result.stdout.splitlines()[1:]] == [
        ["a.png", "7", "90.0%"],
        ["b.png", "8", "90.0%"],
    ]


@pytest.mark.parametrize(
    ("argument", "stdin", "rows"),
    [
        ('{"a": 1}', None, [{"a": 1}]),
        ('[{"a": 1}, {"a": 2}]', None, [{"a": 1}, {"a": 2}]),
        ("-", b' {"a": 1}', [{"a": 1}]),
        ("-", b'{"a": 1}\n{"a": 2}\n', [{"a": 1}, {"a": 2}]),
        ("-", '{"a": "x\u2028y"}\r\n{"a": "x\x85y"}\n'.encode(), [{"a": "x\u2028y"}, {"a": "x\x85y"}]),
    ],
)
def test_json_is_predicted(cloud, api, argument, stdin, rows):
    result = shoal("predict", "digits", argument, "--json", input=stdin)
    assert len(json.loads(result.stdout)["predictions"]) == len(rows)
    assert json.loads(api.requests[-1][3]) == {"instances": rows}


def test_an_image_on_stdin_is_predicted(cloud, api):
    result = shoal("predict", "digits", "-", "--json", input=b"\x89PNG")
    prediction = {"label": "3", "probability": 0.9, "probabilities": {"3": 0.9}}
    assert json.loads(result.stdout) == {"model": "digits", "predictions": [prediction]}
    assert api.requests[-1][3] == b"\x89PNG"


def test_rows_of_a_file_are_predicted(cloud, tmp_path):
    (tmp_path / "x.csv").write_text("a\n1\n2\n")
    lines = shoal("predict", "digits", str(tmp_path / "x.csv")).stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["x.csv:1", "x.csv:2"]


@pytest.mark.parametrize("argument", ["nowhere.png", "{", "[1]", "[]", "nowhere.csv"])
def test_what_cant_be_an_input_is_two(cloud, argument):
    result = shoal("predict", "digits", argument)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 2


def test_an_unknown_model_is_two(cloud):
    assert shoal("predict", "none", '{"a": 1}').exit_code == 2
