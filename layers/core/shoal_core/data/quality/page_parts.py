"""Small parts that all of the page is made of: tables, chips, hints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from shoal_core.data.quality.markup import Child, Markup, element


def table(
    caption: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Child]],
    numbers: Iterable[str] = (),
    *,
    headed: bool = True,
) -> Markup:
    """A table with a caption; `numbers` are aligned to the right, and if `headed` its first cell heads a row."""
    right = {index for index, name in enumerate(columns) if name in set(numbers)}

    def cell(index: int, value: Child) -> Markup:
        if index == 0 and headed:
            return element("th", value, scope="row")
        return element("td", value, class_="n" if index in right else None)

    head = (
        element("th", name, scope="col", class_="n" if index in right else None) for index, name in enumerate(columns)
    )
    lines = (element("tr", *(cell(index, value) for index, value in enumerate(row))) for row in rows)
    content = element(
        "table", element("caption", caption), element("thead", element("tr", *head)), element("tbody", *lines)
    )
    return element("div", content, class_="scroll")


def chip(text: str, shade: str) -> Markup:
    """A short word with a background; its meaning is in the word, not in the colour."""
    return element("span", text, class_=f"chip {shade}")


def hint(text: str) -> Markup:
    """A quiet sentence under a heading."""
    return element("p", text, class_="hint")
