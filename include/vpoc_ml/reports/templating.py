"""The one Jinja environment of every page, with the filters that format numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from vpoc_ml.artifacts.metrics import Interval
from vpoc_ml.artifacts.training_progress import ProgressRecord
from vpoc_ml.market.nights import CHICAGO
from vpoc_ml.registry.promotion import odds
from vpoc_ml.reports.inline_svg import Chart, histogram_svg, loss_curves_svg, three_digits
from vpoc_ml.reports.sentences import verdict_on

NO_VALUE = "n/a"


def render(template: str, **context: Any) -> str:
    """Return a page of ``templates/`` as HTML; a name that ``context`` lacks is an error."""
    return environment().get_template(template).render(**context)


@cache
def environment() -> Environment:
    """Return the environment: templates escape all values, and share ``style.css`` and the filters below."""
    made = Environment(
        loader=PackageLoader("vpoc_ml.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "interval": _interval,
        "dollars": _or_no_value(lambda value: f"{value:,.2f}"),
        "count": _or_no_value(lambda value: f"{value:,}"),
        "percent": _or_no_value(lambda value: f"{100 * value:.2f} %"),
        "number": _or_no_value(lambda value: three_digits(0.0 if abs(value) < 1e-12 else value)),
        # percent without the sign; zero stays a plain 0, which makes other values visible
        "share": _or_no_value(lambda value: "0" if not value else "<0.001" if value < 1e-5 else f"{100 * value:.3g}"),
        "spark": _spark,
        "loss_curves": _loss_curves,
        "odds": odds,
        "chicago": _chicago,
        "age": _or_no_value(age),
        "chart": _chart,
        "code": _code,
        "verdict_on": lambda gain: verdict_on(_as_interval(gain)),
    }
    return made


def age(span: timedelta) -> str:
    """Return a span of time in words, such as ``3 h``, ``45 min`` or ``12 days``."""
    minutes = max(round(span.total_seconds() / 60), 0)
    for unit, size in (("days", 1440), ("h", 60)):
        if minutes >= 2 * size:
            return f"{minutes // size} {unit}"
    return f"{minutes} min"


def _chicago(value: datetime | str | None, form: str = "%Y-%m-%d %H:%M %Z") -> str:
    """Return an aware time, or its ISO text, in Chicago time; the page shows UTC on hover."""
    if value is None:
        return NO_VALUE
    at = datetime.fromisoformat(value) if isinstance(value, str) else value
    utc = at.astimezone(UTC)
    words = f"{utc:%Y-%m-%dT%H:%M:%SZ}", f"{utc:%Y-%m-%d %H:%M:%S} UTC", f"{at.astimezone(CHICAGO):{form}}"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(*words)


def _code(text: str) -> str:
    """Return text in which what stands between backticks is code."""
    parts = text.split("`")
    return Markup().join(
        Markup("<code>{}</code>").format(part) if odd % 2 else escape(part) for odd, part in enumerate(parts)
    )


def _chart(chart: Chart, opened: bool = False) -> str:
    """Return a chart as a figure, with its data as a table below it."""
    shown: Markup = Markup(render("chart.html", chart=chart, svg=Markup(chart.svg), opened=opened))  # noqa: S704
    return shown


def _or_no_value(show: Callable[[Any], str]) -> Callable[[Any], str]:
    return lambda value: NO_VALUE if value is None else show(value)


def _as_interval(value: Mapping[str, float] | Interval | None) -> Interval | None:
    """Return an interval that may come as JSON, as those of the feature analysis do."""
    return Interval(**value) if isinstance(value, Mapping) else value


def _interval(value: Mapping[str, float] | Interval | None, digits: int, factor: float = 1.0) -> str:
    """Return a value with its interval, each times ``factor``."""
    interval = _as_interval(value)
    if interval is None:
        return NO_VALUE
    shown, low, high = (f"{factor * each:.{digits}f}" for each in (interval.value, interval.low, interval.high))
    return Markup("{} <small>[{}, {}]</small>").format(shown, low, high)


def _loss_curves(progress: Sequence[ProgressRecord]) -> str:
    svg = loss_curves_svg(progress)
    return Markup('<figure class="curves">{}</figure>').format(Markup(svg)) if svg else ""  # noqa: S704 - numbers only


def _spark(described: Mapping[str, Any], label: str) -> str:
    """Return the histogram of ``described`` as an inline SVG."""
    histogram = described["histogram"]
    if histogram is None:
        return NO_VALUE
    label = f"{label}, {three_digits(histogram['low'])} to {three_digits(histogram['high'])}"
    return Markup(histogram_svg(histogram["counts"], label))  # noqa: S704 - histogram_svg escapes its label
