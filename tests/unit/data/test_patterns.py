import pytest

from shoal_core.data.patterns import pattern_of


@pytest.mark.parametrize(
    ("pattern", "name", "found"),
    [
        ("**/{group}_*", "a/b/p01_3_left.png", "p01"),
        ("**/{group}_*", "p01_3.png", "p01"),
        ("**/{group}_*", "a/b.png", None),
        ("{group}/**", "p7/x/y.png", "p7"),
        ("{group}/*", "p7/x/y.png", None),
        ("*/{group}/*", "a/p7/y.png", "p7"),
        ("**/scan-{group}-??.tif", "a/scan-9-01.tif", "9"),
        ("**/{group}", "a/b.png", "b.png"),
        ("**/{group}.png", "a/b.c.png", "b.c"),
        ("**/[{group}].png", "a/[b].png", "b"),
        ("**/{group}_*", "a/_3.png", None),
        ("**/{group}/{group}_*", "a/p7/p7_1.png", "p7"),
        ("**/{group}/{group}_*", "a/p7/p8_1.png", None),
        ("**/{group} *", "a/zwei\nZeilen x.png", "zwei\nZeilen"),
    ],
)
def test_a_part_of_a_name(pattern: str, name: str, found: str | None) -> None:
    match = pattern_of(pattern, "group").fullmatch(name)
    assert (match["group"] if match else None) == found


def test_without_a_part_braces_are_letters() -> None:
    assert pattern_of("{group}/*.csv").fullmatch("{group}/a.csv")
    assert not pattern_of("{group}/*.csv").fullmatch("p/a.csv")
    assert pattern_of("*{}*").fullmatch("a{}.csv")
