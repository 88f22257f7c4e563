"""SVG images written as text: small ones for stored pages, charts for the pages under *Reports*.

No library, no identifiers, reproducible to the byte. A chart has no colours of its own: its elements have classes, and
``site.css`` gives them the colours of the light or the dark page. Beside the image it has its data as a table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Literal

from vpoc_ml.artifacts.training_progress import ProgressRecord, split_records

if TYPE_CHECKING:
    from vpoc_ml.evaluation.forecasts import Floats

# Okabe and Ito's palette: distinguishable with any colour vision, and by its greys in print.
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
GREY, INK, PALE = "#9AA3AD", "#1F2933", "#E4E7EB"
Tone = Literal["good", "warning", "bad", "info", "none"]
"""Meaning of a colour; never the only carrier of it."""
WIDTH, LEFT, RIGHT, TOP, BOTTOM = 640, 56, 8, 8, 22
"""Size of a chart and the room around its plot, pixels."""
LABEL = 70
"""Width of a date below a chart, pixels."""


def histogram_svg(counts: Sequence[int], label: str, width: int = 120, height: int = 28) -> str:
    """Return a histogram as one filled outline; the tallest bin takes the whole height."""
    top, each = max([*counts, 1]), width / max(len(counts), 1)
    path = f"M0 {height}"
    for number, count in enumerate(counts):
        path += f"V{_short(height - height * count / top)}H{_short(each * (number + 1))}"
    return _svg(width, height, label, f'<path d="{path}V{height}Z" fill="{BLUE}"/>')


def path_svg(parts: Sequence[Floats], title: str, step: bool = False) -> str:
    """Return values over time with the largest and smallest at the left, 320 x 110.

    Args:
        parts: Values of each period, in order, each (n,); a dashed line separates them. A value that is not finite
            breaks the path.
        title: Description of the image for screen readers.
        step: Hold each value until the next one.
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
    labels = "".join(
        f'<text x="48" y="{y}" text-anchor="end" fill="{INK}">{three_digits(value)}</text>'
        for y, value in ((15, high), (98, low))[: 2 if high > low else 1]
    )
    return _svg(320, 110, title, f'<path d="M52 6V100H316" stroke="{PALE}" fill="none"/>' + body + labels)


def three_digits(value: float) -> str:
    """Return three significant digits without an exponent where they fit."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}" if digits <= 5 else f"{value:.1e}"


def loss_curves_svg(progress: Sequence[ProgressRecord]) -> str:
    """Return the losses over the steps of a training: training and validation by epoch, and the constant's loss.

    The colours follow the classes ``train``, ``validation`` and ``constant`` of the page. Without a finite loss: "".

    Args:
        progress: Records of ``progress.jsonl``, oldest first.
    """
    windows, epochs = split_records(progress)
    sources: dict[str, tuple[Sequence[ProgressRecord], str]] = {
        "train": (epochs, "train_loss"),
        "validation": (epochs, "validation_loss"),
    }
    sources["constant"] = (epochs, "validation_constant")
    if len(epochs) < 2:
        sources["train"] = (windows, "loss")
    curves = {
        curve: [(record.step, value) for record in records if (value := getattr(record, name)) is not None]
        for curve, (records, name) in sources.items()
    }
    points = [point for curve in curves.values() for point in curve]
    if not points:
        return ""
    right = max(step for step, _ in points) or 1
    low, high = min(loss for _, loss in points), max(loss for _, loss in points)
    span = high - low or abs(high) or 1.0
    body = '<path d="M70 12V205H885" fill="none" stroke="currentColor" opacity=".5"/>'
    for number, (name, curve) in enumerate(curves.items()):
        path = " ".join(f"{70 + 810 * step / right:.1f},{200 - 180 * (loss - low) / span:.1f}" for step, loss in curve)
        body += f'<polyline class="{name}" fill="none" stroke-width="2" points="{path}"/>'
        body += f'<path class="{name}" stroke-width="2" d="M{90 + 160 * number} 238h26"/>'
        body += f'<text x="{122 + 160 * number}" y="242">{name}</text>'
    for x, y, text in ((64, 24, f"{high:.5g}"), (64, 204, f"{low:.5g}"), (885, 222, f"step {right:,}")):
        body += f'<text x="{x}" y="{y}" text-anchor="end">{text}</text>'
    return (
        '<svg viewBox="0 0 900 250" role="img" aria-label="Loss over the steps of the training"'
        f' font-family="system-ui,sans-serif" font-size="13" fill="currentColor">{body}</svg>'
    )


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


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _svg(width: int, height: int, label: str, body: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        f' role="img" aria-label="{escape(label)}" font-family="sans-serif" font-size="10">{body}</svg>'
    )


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart: its SVG, and its data as a table.

    Attributes:
        title: what it shows, with the unit.
        svg: the image; all text in it is escaped.
        columns: titles of the table.
        rows: cells of the table, as text.
        links: URL by (row, column) of the cells of the table that are links.
    """

    title: str
    svg: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    links: Mapping[tuple[int, int], str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Threshold:
    """A horizontal line of a chart, such as the limit of a check."""

    value: float
    label: str
    tone: Tone = "warning"


@dataclass(frozen=True, slots=True)
class Cell:
    """A coloured cell of a strip: ``mark`` is its letter, ``label`` says what it means, ``url`` may be ""."""

    tone: Tone
    mark: str
    label: str
    url: str = ""


def line_chart(
    title: str,
    labels: Sequence[str],
    lines: Mapping[str, Sequence[float | None]],
    thresholds: Sequence[Threshold] = (),
    band: tuple[str, Sequence[float | None], Sequence[float | None]] | None = None,
    height: int = 200,
) -> Chart:
    """Return lines over common labels, with thresholds and one band.

    Args:
        title: What the chart shows, with the unit.
        labels: Text of each point on the horizontal axis, (n,).
        lines: Values by name, each (n,); None or a value that is not finite breaks the line. Up to four lines have a
            colour and a dash of their own.
        thresholds: Horizontal lines, inside the vertical range.
        band: Name, lower and upper limits, each (n,); None leaves a gap.
        height: Height in pixels.
    """
    limits = [] if band is None else [*band[1], *band[2]]
    every = [*(value for line in lines.values() for value in line), *limits, *(each.value for each in thresholds)]
    low, high = _range([value for value in every if value is not None and math.isfinite(value)])
    xs = [LEFT + (WIDTH - LEFT - RIGHT) * (k + 0.5) / max(len(labels), 1) for k in range(len(labels))]

    def y(value: float) -> float:
        return height - BOTTOM - (height - TOP - BOTTOM) * (value - low) / (high - low)

    body = _axes(low, high, labels, xs, height)
    if band is not None:
        for part in _unbroken(xs, *band[1:]):
            outline = [f"{_short(x)} {_short(y(lower))}" for x, lower, _ in part]
            outline += [f"{_short(x)} {_short(y(upper))}" for x, _, upper in reversed(part)]
            body += f'<path class="band" d="M{"L".join(outline)}Z"/>'
    for each in thresholds:
        at = _short(y(each.value))
        body += f'<path class="limit {each.tone}" d="M{LEFT} {at}H{WIDTH - RIGHT}"/>'
        above = _short(y(each.value) - 3)
        body += f'<text x="{WIDTH - RIGHT}" y="{above}" text-anchor="end">{escape(each.label)}</text>'
    for number, line in enumerate(lines.values()):
        for part in _unbroken(xs, line):
            path = "L".join(f"{_short(x)} {_short(y(value))}" for x, value in part)
            shape = f"M{path}" if len(part) > 1 else f"M{path}h.1"
            body += f'<path class="line line{number % 4}" d="{shape}"/>'
    columns = ("", *lines, *((f"{band[0]}, from", f"{band[0]}, to") if band else ()))
    values = [*lines.values(), *(band[1:] if band else ())]
    rows = tuple((label, *(_text(value[k]) for value in values)) for k, label in enumerate(labels))
    names = ", ".join([*lines, *(f"{each.label} at {three_digits(each.value)}" for each in thresholds)])
    return Chart(title, _chart(height, title, names, body), columns, rows)


def bar_chart(
    title: str, labels: Sequence[str], values: Sequence[float | None], tones: Sequence[Tone] = (), height: int = 160
) -> Chart:
    """Return one bar per label, from zero; a value that is None or not finite has no bar.

    Args:
        title: What the chart shows, with the unit.
        labels: Text of each bar, (n,).
        values: Length of each bar, (n,).
        tones: Colour of each bar, (n,); empty: all the same.
        height: Height in pixels.
    """
    finite = [value for value in values if value is not None and math.isfinite(value)]
    low, high = _range([0.0, *finite])
    each = (WIDTH - LEFT - RIGHT) / max(len(labels), 1)
    xs = [LEFT + each * (k + 0.5) for k in range(len(labels))]
    scale = (height - TOP - BOTTOM) / (high - low)
    zero = height - BOTTOM + scale * low
    body = _axes(low, high, labels, xs, height)
    for k, value in enumerate(values):
        if value is None or not math.isfinite(value):
            continue
        y, tall = _short(zero - scale * max(value, 0.0)), _short(scale * abs(value))
        x, wide = _short(xs[k] - 0.4 * each), f"{0.8 * each:.2f}"
        tone = tones[k] if tones else "info"
        shown = f"<title>{escape(labels[k])}: {_text(value)}</title>"
        body += f'<rect class="fill {tone}" x="{x}" y="{y}" width="{wide}" height="{tall}">{shown}</rect>'
    rows = tuple((label, _text(value)) for label, value in zip(labels, values, strict=True))
    return Chart(title, _chart(height, title, f"{len(labels)} bars", body), ("", "value"), rows)


def heat_map(
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    tones: Sequence[Sequence[Tone]],
    words: Mapping[Tone, str],
    links: Mapping[tuple[int, int], str] | None = None,
) -> Chart:
    """Return a grid of coloured cells: one row per name, one column per label.

    Args:
        title: What the chart shows.
        rows: Name of each row, (m,).
        columns: Label of each column, (n,).
        tones: Colour of each cell, (m, n).
        words: What each colour means; the text of the cells in the table.
        links: URL by (m, n) of the cells that are links. The keyboard reaches them in the table.
    """
    links = links or {}
    left, size = 190, 14
    each = min(24.0, (WIDTH - left - RIGHT) / max(len(columns), 1))
    height, body = TOP + size * len(rows) + BOTTOM, ""
    paths: dict[Tone, str] = {}
    for m, line in enumerate(tones):
        for n, tone in enumerate(line):
            x, y = _short(left + each * n), TOP + size * m
            shape = f"M{x} {y}h{max(each - 1, 1):.1f}v{size - 1}h-{max(each - 1, 1):.1f}z"
            paths[tone] = paths.get(tone, "") + ("" if (m, n) in links else shape)
            if (m, n) in links:
                said = escape(f"{rows[m]}, {columns[n]}: {words[tone]}")
                link = f'<a href="{escape(links[m, n])}" tabindex="-1" aria-label="{said}"><title>{said}</title>'
                body += f'{link}<path class="fill {tone}" d="{shape}"/></a>'
    body += "".join(f'<path class="fill {tone}" d="{path}"/>' for tone, path in paths.items() if path)
    for m, name in enumerate(rows):
        shown = name if len(name) <= 28 else f"{name[:27]}…"
        body += f'<text x="{left - 6}" y="{TOP + size * m + 10}" text-anchor="end">{escape(shown)}</text>'
    body += _x_labels(columns, [left + each * (n + 0.5) for n in range(len(columns))], height)
    cells = tuple((name, *(words[tone] for tone in line)) for name, line in zip(rows, tones, strict=True))
    legend = ", ".join(words[tone] for tone in paths)
    shown_links = {(m, n + 1): url for (m, n), url in links.items()}
    return Chart(title, _chart(height, title, legend, body, bool(links)), ("", *columns), cells, shown_links)


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Return a vertical range around the values, never empty."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if low == high:
        pad = abs(low) or 1.0
        return (low, low + pad) if low == 0 else (low - pad, low + pad)
    return low, high + 0.08 * (high - low)


def _axes(low: float, high: float, labels: Sequence[str], xs: Sequence[float], height: int) -> str:
    """Return three lines of the grid with their values, and the first, middle and last label."""
    body = ""
    for part in (0.0, 0.5, 1.0):
        value = low + part * (high - low)
        y = _short(height - BOTTOM - part * (height - TOP - BOTTOM))
        body += f'<path class="grid" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>'
        body += f'<text x="{LEFT - 5}" y="{_short(float(y) + 4)}" text-anchor="end">{three_digits(value)}</text>'
    return body + _x_labels(labels, xs, height)


def _x_labels(labels: Sequence[str], xs: Sequence[float], height: int) -> str:
    """Return the first, middle and last label, as far as there is room."""
    if not labels:
        return ""
    last, body = len(labels) - 1, ""
    room = xs[last] - xs[0]
    for k in sorted({0, last // 2, last} if room >= 3 * LABEL else {0, last} if room >= 2 * LABEL else {last}):
        anchor = "middle" if 0 < k < last or last == 0 else "end" if k else "start"
        body += f'<text x="{_short(xs[k])}" y="{height - 6}" text-anchor="{anchor}">{escape(labels[k])}</text>'
    return body


def _unbroken(xs: Sequence[float], *series: Sequence[float | None]) -> list[list[tuple[float, ...]]]:
    """Return the stretches of points at which every series has a finite value."""
    parts: list[list[tuple[float, ...]]] = [[]]
    for x, *found in zip(xs, *series, strict=True):
        point = tuple(value for value in found if value is not None and math.isfinite(value))
        if len(point) == len(found):
            parts[-1].append((x, *point))
        elif parts[-1]:
            parts.append([])
    return [part for part in parts if part]


def _text(value: float | None) -> str:
    return "n/a" if value is None or not math.isfinite(value) else three_digits(value)


def _chart(height: int, title: str, description: str, body: str, has_links: bool = False) -> str:
    role = "group" if has_links else "img"  # an image has no links inside
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="{role}" aria-label="{escape(title)}">'
        f"<desc>{escape(description)}</desc>{body}</svg>"
    )
