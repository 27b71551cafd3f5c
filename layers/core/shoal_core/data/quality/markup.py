"""HTML that can't be injected into: every text is escaped unless it was made here."""

from __future__ import annotations

import html
from collections.abc import Iterable

_VOID = frozenset({"meta", "img", "br", "rect", "line", "polyline"})


class Markup(str):
    """HTML that is safe to embed; only `element` and `join` make it."""

    __slots__ = ()


Child = Markup | str | int | None


def element(tag: str, *children: Child, **attributes: str | int | float | None) -> Markup:
    """One element.

    Args:
        tag: Its name.
        children: Markup goes in as it is, texts are escaped, None is nothing.
        attributes: Values are escaped; a trailing underscore is dropped (`class_`), others become dashes; None is left
            out.
    """
    texts = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(_plain(str(value)))}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in _VOID:
        return Markup(f"<{tag}{texts}/>")
    return Markup(f"<{tag}{texts}>{join(children)}</{tag}>")


def join(children: Iterable[Child]) -> Markup:
    """Several children, one after the other."""
    return Markup("".join(_escaped(child) for child in children if child is not None))


def verbatim(text: str) -> Markup:
    """Text of the program itself, such as a style sheet; never a user's."""
    return Markup(text)


def _escaped(child: Child) -> str:
    return child if isinstance(child, Markup) else html.escape(_plain(str(child)))


def _plain(text: str) -> str:
    """Without control characters and lone surrogates, which no document may hold, and with direction marks shown."""
    text = text.encode("utf-8", "replace").decode()
    return "".join(
        character if character in "\t\n" or _is_harmless(ord(character)) else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )


def _is_harmless(code: int) -> bool:
    control = code < 0x20 or 0x7F <= code < 0xA0
    turning = 0x202A <= code <= 0x202E or 0x2066 <= code <= 0x2069  # these reorder the text around them
    return not (control or turning or code in (0xFFFE, 0xFFFF))
