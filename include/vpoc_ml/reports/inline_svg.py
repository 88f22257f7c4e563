"""Small SVG images written as text: a histogram, a path. No library, no identifiers, reproducible to the byte."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from vpoc_ml.evaluation.forecasts import Floats

# Okabe and Ito's palette: distinguishable with any colour vision, and by its greys in print.
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
GREY, INK, PALE = "#9AA3AD", "#1F2933", "#E4E7EB"


def histogram_svg(counts: Sequence[int], label: str, width: int = 120, height: int = 28) -> str:
    """Return a histogram as one filled outline; the tallest bin takes the whole height."""
    return _svg(width, height, label, _outline(counts, width, height))


def path_svg(parts: Sequence[Floats], title: str, step: bool = False) -> str:
    """Return values over time with the largest and smallest at the left, 320 x 110.

    Args:
        parts: values of each stretch of time, in order, each (n,); a line separates them. What is not finite
            breaks the path.
        title: what the picture shows, for those who do not see it.
        step: hold each value until the next one.
    """
    finite = [float(v) for part in parts for v in part if math.isfinite(v)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    total = max(sum(len(part) for part in parts), 2)
    span = (high - low) or 1.0

    def point(at: int, value: float) -> str:
        y = 95 - 84 * ((value - low) / span if high > low else 0.5)
        return f"{_short(52 + 264 * at / (total - 1))} {_short(y)}"

    body, at = "", 0
    for number_of_part, part in enumerate(parts):
        if number_of_part:
            x = _short(52 + 264 * (at - 0.5) / (total - 1))
            body += f'<path d="M{x} 6V100" stroke="{GREY}" stroke-dasharray="2 2" fill="none"/>'
        body += _line([point(at + k, v) if math.isfinite(v) else None for k, v in enumerate(part.tolist())], step)
        at += len(part)
    labels = _text(48, 15, three_digits(high), "end") + (_text(48, 98, three_digits(low), "end") if high > low else "")
    return _svg(320, 110, title, f'<path d="M52 6V100H316" stroke="{PALE}" fill="none"/>' + body + labels)


def three_digits(value: float) -> str:
    """Return three significant digits without an exponent where they fit."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}" if digits <= 5 else f"{value:.1e}"


def _line(points: Sequence[str | None], step: bool) -> str:
    path, broken, last_y = "", True, ""
    for point in points:
        if point is None:
            broken = True
            continue
        x, y = point.split()
        if broken:
            path += f"M{x} {y}"
        elif step:
            path += f"H{x}" + (f"V{y}" if y != last_y else "")
        else:
            path += f"L{x} {y}"
        broken, last_y = False, y
    return f'<path d="{path}" stroke="{BLUE}" fill="none" stroke-linejoin="round"/>' if path else ""


def _outline(counts: Sequence[int], width: int, height: int) -> str:
    top, each = max([*counts, 1]), width / max(len(counts), 1)
    heights = [height * count / top for count in counts]
    path = f"M0 {height}"
    for place, tall in enumerate(heights):
        path += f"V{_short(height - tall)}H{_short(each * (place + 1))}"
    return f'<path d="{path}V{height}Z" fill="{BLUE}"/>'


def _text(x: int, y: int, text: str, anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{INK}">{escape(text)}</text>'


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _svg(width: int, height: int, label: str, body: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        f' role="img" aria-label="{escape(label)}" font-family="sans-serif" font-size="10">{body}</svg>'
    )
