"""Small SVG images written as text: a histogram, a path. No library, no identifiers, reproducible to the byte."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from vpoc_ml.artifacts.training_progress import ProgressRecord, split_records

if TYPE_CHECKING:
    from vpoc_ml.evaluation.forecasts import Floats

# Okabe and Ito's palette: distinguishable with any colour vision, and by its greys in print.
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
GREY, INK, PALE = "#9AA3AD", "#1F2933", "#E4E7EB"


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
