from pathlib import Path

import pytest

from shoal_core.errors import BadInput
from shoal_core.graphs.rules.registry import FAMILIES, REFUSED, RULES, WITHOUT_GRADIENT
from shoal_core.graphs.table import BEGIN, END, ORACLE_PARTLY, RESTRICTIONS, main, render, replace

DOCUMENT = Path(__file__).parents[3] / "docs/operators.md"


def test_the_document_is_fresh():
    text = DOCUMENT.read_text(encoding="utf-8")
    assert replace(text) == text, "run: python -m shoal_core.graphs.table docs/operators.md"


def test_every_operator_has_one_row():
    rows = [line.split("`")[1] for line in render().splitlines() if line.startswith("| `")]
    assert sorted(rows) == sorted(RULES)
    assert sum(len(rules) for rules in FAMILIES.values()) == len(RULES)
    assert not WITHOUT_GRADIENT.intersection(RULES)
    assert set(RESTRICTIONS) | set(ORACLE_PARTLY) <= set(RULES)
    assert not set(REFUSED).intersection(RULES)


def test_the_tables_need_their_place(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text(f"a\n{BEGIN}\nold\n{END}\nb")
    assert main([str(page)]) == 0
    assert page.read_text() == f"a\n{BEGIN}\n\n{render()}\n{END}\nb"
    assert main([]) == 0
    assert capsys.readouterr().out == render()
    with pytest.raises(BadInput, match="lacks the marks"):
        replace("no place here")
