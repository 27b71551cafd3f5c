"""Charts as inline SVG: drawn with numbers of the report, named for those who don't see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shoal_core.data.quality.markup import Markup, element, join

WIDTH = 240
HEIGHT = 64


def histogram(counts: Sequence[int], low: float, high: float, bounds: tuple[float, float] | None, label: str) -> Markup:
    """Bars of equal width from low to high; dashed lines where values are clipped."""
    top = max(counts)
    step = WIDTH / len(counts)
    bars = [
        element(
            "rect",
            class_="f-bar",
            x=_short(index * step + 0.75),
            y=_short(HEIGHT - _height(count, top)),
            width=_short(step - 1.5),
            height=_short(_height(count, top)),
        )
        for index, count in enumerate(counts)
        if count
    ]
    lines = []
    if bounds is not None and high > low:
        for bound in bounds:
            if low < bound < high:
                place = _short((bound - low) / (high - low) * WIDTH)
                lines.append(element("line", class_="s-bound", x1=place, x2=place, y1=0, y2=HEIGHT))
    axis = element("line", class_="s-axis", x1=0, x2=WIDTH, y1=HEIGHT + 0.5, y2=HEIGHT + 0.5)
    texts = (
        element("text", figure(low), x=0, y=HEIGHT + 15),
        element("text", figure(high), x=WIDTH, y=HEIGHT + 15, text_anchor="end"),
    )
    return _svg(WIDTH, HEIGHT + 18, label, *bars, *lines, axis, *texts)


def bar(share: float, label: str, shade: str = "f-bar") -> Markup:
    """One horizontal bar, a share of the whole width."""
    ground = element("rect", class_="f-ground", x=0, y=0, width=WIDTH, height=10, rx=2)
    front = element("rect", class_=shade, x=0, y=0, width=_short(max(1.0, min(1.0, share) * WIDTH)), height=10, rx=2)
    return element(
        "svg", ground, front if share > 0 else None, viewBox=f"0 0 {WIDTH} 10", preserveAspectRatio="none",
        height=10, role="img", aria_label=label,
    )  # fmt: skip


def stacked_bars(rows: Sequence[tuple[str, Mapping[str, int]]]) -> Markup:
    """Rows of (name, part -> count), each a bar of its parts; the longest one fills the width."""
    width, line, right = 1000, 22, 70
    left = 16 + 6 * min(26, max((len(name) for name, _ in rows), default=0))
    longest = max((sum(parts.values()) for _, parts in rows), default=1) or 1
    scale = (width - left - right) / longest
    drawn: list[Markup] = []
    for index, (name, parts) in enumerate(rows):
        y, x = index * line, float(left)
        shown = name if len(name) <= 26 else f"{name[:25]}…"
        title = element("title", name) if shown != name else None
        drawn.append(element("text", title, shown, class_="strong", x=left - 10, y=y + 15, text_anchor="end"))
        for part, count in parts.items():
            if count:
                drawn.append(
                    element("rect", class_=f"f-{part}", x=_short(x), y=y + 4, width=_short(count * scale), height=14)
                )
            x += count * scale
        drawn.append(element("text", f"{sum(parts.values()):,}", x=_short(x + 8), y=y + 15))
    told = "; ".join(
        f"{name}: {', '.join(f'{part} {count:,}' for part, count in parts.items())}" for name, parts in rows
    )
    return _svg(width, max(1, len(rows)) * line, told, *drawn)


def curve(values: Sequence[float | None], label: str) -> Markup:
    """A line through values at equal distances; None leaves a gap."""
    present = [value for value in values if value is not None]
    low, high = min(present, default=0.0), max(present, default=1.0)
    span = (high - low) or 1.0
    pieces: list[list[str]] = [[]]
    for index, value in enumerate(values):
        if value is None:
            pieces.append([])
            continue
        x = index / max(1, len(values) - 1) * (WIDTH - 4) + 2
        pieces[-1].append(f"{_short(x)},{_short(HEIGHT - 3 - (value - low) / span * (HEIGHT - 6))}")
    lines = [element("polyline", class_="s-line", points=" ".join(points)) for points in pieces if len(points) > 1]
    return _svg(WIDTH, HEIGHT, label, *lines)


def figure(value: float) -> str:
    """A number for people: up to four significant digits, thousands apart, but not in 2007."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value)}" if abs(value) < 10_000 else f"{int(value):,}"
    if 1e-3 <= abs(value) < 1e6:
        return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"
    return f"{value:.3g}"


def _svg(width: int, height: int, label: str, *children: Markup) -> Markup:
    return element("svg", join(children), viewBox=f"0 0 {width} {height}", role="img", aria_label=label)


def _height(count: int, top: int) -> float:
    """At least a visible trace of every bin that isn't empty."""
    return max(1.0, count / top * (HEIGHT - 2))


def _short(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
