"""Two kinds of picture as SVG, drawn by hand: bars side by side, and lines over percentiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH: Final = 840
OURS, THEIRS = "#2563a8", "#b0b7c0"
LINES: Final = ("#2563a8", "#d1603d", "#3a8f5c", "#8a5bb0", "#8d949c")
_FONT: Final = 'font-family="system-ui, sans-serif" font-size="13"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    label: str
    value: float
    ours: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Bars of one unit, with a scale of their own from zero."""

    title: str
    bars: Sequence[Bar]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    label: str
    points: Sequence[tuple[float, float]]
    """`(percentile, ms)`."""


def bars(title: str, panels: Sequence[Panel]) -> str:
    """One panel below the other."""
    left, height, y = 300, 22, 56
    drawn: list[str] = []
    for panel in panels:
        drawn.append(_text(16, y, panel.title, weight="600"))
        y += 12
        most = max(bar.value for bar in panel.bars) or 1.0
        for bar in panel.bars:
            length = max(1.0, (WIDTH - left - 130) * bar.value / most)
            colour = OURS if bar.ours else THEIRS
            drawn.append(f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{height - 6}" fill="{colour}"/>')
            drawn.append(_text(left - 8, y + 13, bar.label, anchor="end"))
            drawn.append(_text(left + length + 6, y + 13, f"{bar.value:,.0f}"))
            y += height
        y += 26
    return _picture(title, drawn, y - 10)


def percentiles(title: str, lines: Sequence[Line]) -> str:
    """Milliseconds, logarithmic, over percentiles by their nines: what is rare has as much room as what is common."""
    left, right, top, bottom = 70, WIDTH - 20, 60, 380
    low = math.floor(math.log10(min(max(ms, 0.05) for line in lines for _, ms in line.points)))
    high = math.ceil(math.log10(max(max(ms, 0.1) for line in lines for _, ms in line.points)))

    def x(percentile: float) -> float:
        nines = 3.6 if percentile >= 100 else -math.log10(1 - percentile / 100)
        return left + (right - left) * nines / 3.6

    def y(ms: float) -> float:
        return bottom - (bottom - top) * (math.log10(max(ms, 10.0**low)) - low) / (high - low)

    drawn: list[str] = []
    for power in range(low, high + 1):
        at = y(10.0**power)
        drawn.append(f'<line x1="{left}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}" stroke="#e3e6ea"/>')
        drawn.append(_text(left - 8, at + 4, f"{10.0**power:g} ms", anchor="end"))
    for percentile, name in ((0, "min"), (50, "p50"), (90, "p90"), (99, "p99"), (99.9, "p99.9"), (100, "max")):
        at = x(percentile)
        drawn.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{top}" y2="{bottom}" stroke="#e3e6ea"/>')
        drawn.append(_text(at, bottom + 20, name, anchor="end" if percentile == 100 else "middle"))
    for number, line in enumerate(lines):
        colour = LINES[number % len(LINES)]
        path = " ".join(f"{x(p):.1f},{y(ms):.1f}" for p, ms in line.points)
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        at = bottom + 48 + 20 * number
        drawn.append(f'<rect x="{left}" y="{at - 8}" width="18" height="4" fill="{colour}"/>')
        drawn.append(_text(left + 26, at, line.label))
    return _picture(title, drawn, bottom + 50 + 20 * len(lines))


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "400") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" fill="#1f2430" {_FONT}>'
        f"{escape(text)}</text>"
    )


def _picture(title: str, drawn: Sequence[str], height: float) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" role="img">'
    ground = f'<rect width="{WIDTH}" height="{height:.0f}" fill="#ffffff"/>'
    heading = _text(16, 26, title, weight="700")
    return "\n".join([head, f"<title>{escape(title)}</title>", ground, heading, *drawn, "</svg>"]) + "\n"
