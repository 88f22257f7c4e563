"""One session as a picture: candles, volume profile, levels of the session so far, and levels from before it.

``plot_session`` reads a session from a lake and works in a notebook; the page of a session shows the same picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from html import escape

import numpy as np
import polars as pl
from markupsafe import Markup

from vpoc_ml.artifacts.layout import SESSIONS, contract_folder, contract_key
from vpoc_ml.artifacts.schemas import LEVELS
from vpoc_ml.config import ProfileConfig
from vpoc_ml.errors import MissingInputError
from vpoc_ml.evaluation.policy import EXCHANGE_ZONE
from vpoc_ml.lake.store import Lake
from vpoc_ml.market.contracts import Contract, parse_contract
from vpoc_ml.market.instruments import Instrument, instrument
from vpoc_ml.profile.histogram import Histogram, build_nodes, volume_profile
from vpoc_ml.profile.sessions import naked_levels
from vpoc_ml.reports.templating import render

CANDLES = 280
"""Most candles of a picture. Minutes are joined to whole multiples until no more are left."""
MINUTES = (1, 2, 5, 10, 15, 30, 60)
BAR = timedelta(minutes=1)
NAKED_SHOWN = 8
"""Naked VPOCs in a picture: those nearest to the session's range."""

LEFT, CHART, PROFILE, TOP, HEIGHT, WIDTH = 70, 760, 210, 30, 430, 1230
"""Pixels: left margin, width of the candles, width of the profile, top margin, height of both, whole width."""


@dataclass(frozen=True)
class SessionData:
    """What the picture of a session shows. All levels are in points.

    Attributes:
        contract: code of the contract, such as ``ESH25``.
        session: exchange trade date.
        bars: bars of the session, sorted by ``ts``, columns of ``schemas.BARS``.
        levels: row of the session, columns of ``schemas.SESSIONS``.
        developing: levels at the close of each bar, columns of ``schemas.DEVELOPING``.
        profile: contracts traded at each price of the session.
        nodes: high and low volume nodes, see ``profile.histogram.build_nodes``.
        naked: VPOCs of earlier sessions of the contract that no bar had traded when the session began: ``session``,
            ``vpoc``, ``age`` in sessions.
    """

    contract: str
    session: date
    bars: pl.DataFrame
    levels: dict[str, float | None]
    developing: pl.DataFrame
    profile: Histogram
    nodes: pl.DataFrame
    naked: pl.DataFrame

    def table(self) -> pl.DataFrame:
        """Return the bars with the developing levels ``vpoc``, ``vah``, ``val``: what a download holds."""
        return self.bars.join(self.developing.select("ts", *LEVELS), on="ts", how="left", maintain_order="left")


@dataclass(frozen=True)
class SessionPicture:
    """A picture as SVG text. A notebook shows it."""

    svg: str

    def _repr_svg_(self) -> str:
        return self.svg


def session_days(lake: Lake, contract: str) -> list[date]:
    """Return the sessions that the lake has of a contract, oldest first; empty where it has none."""
    key = contract_key("sessions", parse_contract(contract).root, contract)
    if lake.manifest(key) is None:
        return []
    days: list[date] = lake.read_frame(key, ["session"])["session"].to_list()
    return days


def stored_contracts(lake: Lake, kind: str = SESSIONS) -> list[str]:
    """Return the codes of the contracts that have an artifact of this kind, by instrument and delivery month."""
    found: list[Contract] = []
    for symbol in lake.storage.folders(kind):
        keys = lake.storage.written(contract_folder(kind, symbol))
        names = (key.rsplit("/", 1)[-1] for key in keys)
        found += [parse_contract(name.removesuffix(".parquet")) for name in names if name.endswith(".parquet")]
    return [contract.code for contract in sorted(found)]


def newest_session(lake: Lake, contract: str | None = None, session: date | None = None) -> SessionData:
    """Read a session; what is None is the newest.

    Raises:
        ContractCodeError: ``contract`` cannot be read.
        MissingInputError: the lake has no such contract, the contract no such session, or neither has any.
    """
    contracts = [parse_contract(contract).code] if contract else stored_contracts(lake)[-1:]
    if not contracts or not (days := session_days(lake, contracts[0])):
        place = lake.location(SESSIONS)
        raise MissingInputError(place, f"sessions of {contract or 'a contract'}", "Run vpoc-ml profile first.")
    return read_session(lake, contracts[0], session or days[-1])


def read_session(lake: Lake, contract: str, session: date, config: ProfileConfig | None = None) -> SessionData:
    """Read one session of a contract from the lake.

    Args:
        lake: holds bars, sessions and developing levels of the contract.
        contract: code of the contract, such as ``ESH25``.
        session: exchange trade date.
        config: the spread of the profile; the default is uniform.

    Raises:
        MissingInputError: the lake has no such contract, or the contract no such session.
    """
    traded, profiling = instrument(parse_contract(contract).root), config or ProfileConfig()
    known = session_days(lake, contract)
    if session not in known:
        having = f"sessions from {known[0]} to {known[-1]}" if known else "no such contract"
        raise MissingInputError(
            lake.location(contract_key("sessions", traded.symbol, contract)),
            f"session {session} of {contract} (found {having})",
            f"Choose another session, or run `vpoc-ml profile` for {contract}.",
        )
    bars, sessions, developing = (
        lake.read_frame(contract_key(kind, traded.symbol, contract)) for kind in ("bars", "sessions", "developing")
    )
    own, before = bars.filter(pl.col("session") == session), pl.col("session") < session
    return SessionData(
        contract=contract,
        session=session,
        bars=own,
        levels=sessions.filter(pl.col("session") == session).row(0, named=True),
        developing=developing.filter(pl.col("session") == session),
        profile=volume_profile(own, traded, profiling),
        nodes=build_nodes(own, traded, profiling),
        naked=naked_levels(bars.filter(before), sessions.filter(before), traded),
    )


def plot_session(lake: Lake | str, contract: str, session: date, config: ProfileConfig | None = None) -> SessionPicture:
    """Return the picture of a session, for a notebook; ``print(plot_session(...).svg)`` gives its text.

    Args:
        lake: a lake, or its folder or URL.
        contract: code of the contract, such as ``ESH25``.
        session: exchange trade date.
        config: the spread of the profile; the default is uniform.

    Raises:
        MissingInputError: the lake has no such contract, or the contract no such session.
    """
    data = read_session(lake if isinstance(lake, Lake) else Lake(lake), contract, session, config)
    return SessionPicture(session_svg(data, instrument(parse_contract(contract).root)))


def session_svg(data: SessionData, traded: Instrument, *, style: bool = True) -> Markup:
    """Return the picture of a session as SVG: candles and levels at the left, the volume profile at the right.

    Times are those of the exchange. The shaded band is RTH. Dotted lines are the developing VPOC and value area as they
    were known at the close of each bar; full lines are the levels of the whole session.

    Args:
        data: the session.
        traded: the instrument of the contract.
        style: put the style into the picture; pages under *Reports* have it in their style sheet.
    """
    minutes, candles = joined_bars(data.bars)
    naked = nearest_naked(data)
    low, high = (float(data.profile.prices[at]) for at in (0, -1))
    shown = [low, high, *naked["vpoc"].to_list()]
    scale = _Scale(min(shown), max(shown), data.bars["ts"][0], data.bars["ts"][-1])
    body = [
        *_grid(scale, data, traded),
        *_candles(scale, candles, minutes),
        *_profile(scale, data),
        *_developing(scale, data),
        *_levels(scale, data, naked),
    ]
    vpoc, val, vah = (_points(data.levels[name], traded) for name in ("vpoc", "val", "vah"))
    title = f"{data.contract} session {data.session}: VPOC {vpoc}, value area {val} to {vah}"
    head = f'<text x="{LEFT}" y="18">{escape(title)}</text>'
    hint = f'<text class="soft" x="{WIDTH - 10}" y="18" text-anchor="end">candles of {minutes} min</text>'
    style_element = f"<style>{render('session.css')}</style>" if style else ""
    return Markup(  # noqa: S704 - numbers, and a title that is escaped
        f'<svg xmlns="http://www.w3.org/2000/svg" class="session" viewBox="0 0 {WIDTH} {TOP + HEIGHT + 60}"'
        f' width="100%" role="img" aria-label="{escape(title)}">{style_element}'
        f"{head}{hint}{''.join(body)}{_legend()}</svg>"
    )


def joined_bars(bars: pl.DataFrame) -> tuple[int, pl.DataFrame]:
    """Return the minutes of a candle and the candles: ts, open, high, low, close of at most ``CANDLES`` spans."""
    frame = bars.sort("ts")
    for minutes in MINUTES:
        found = frame.group_by_dynamic("ts", every=f"{minutes}m").agg(
            pl.col("open").first(), pl.col("high").max(), pl.col("low").min(), pl.col("close").last()
        )
        if found.height <= CANDLES:
            break
    return minutes, found


def nearest_naked(data: SessionData) -> pl.DataFrame:
    """Return the ``NAKED_SHOWN`` naked VPOCs that are nearest to the session's range, none farther than one range."""
    low, high = float(data.profile.prices[0]), float(data.profile.prices[-1])
    room = max(high - low, 1.0)
    apart = pl.max_horizontal(low - pl.col("vpoc"), pl.col("vpoc") - high, 0.0)
    near = data.naked.with_columns(apart=apart).filter(pl.col("apart") <= room)
    return near.sort("apart", "age").head(NAKED_SHOWN).sort("vpoc")


class _Scale:
    """Pixels of times and prices."""

    def __init__(self, low: float, high: float, first: datetime, last: datetime) -> None:
        margin = max(high - low, 1.0) * 0.03
        self.low, self.high = low - margin, high + margin
        self._first, self._seconds = first, max((last - first).total_seconds(), 60.0)

    def x(self, at: datetime) -> float:
        return LEFT + CHART * (at - self._first).total_seconds() / self._seconds

    def y(self, price: float) -> float:
        return TOP + HEIGHT * (self.high - price) / (self.high - self.low)


def _grid(scale: _Scale, data: SessionData, traded: Instrument) -> Iterator[str]:
    """Yield the RTH band, lines of round prices and of whole hours with their labels."""
    if not (rth := data.bars.filter("rth")).is_empty():
        begin, end = scale.x(rth["ts"][0]), scale.x(rth["ts"][-1])
        yield f'<rect class="rth" x="{begin:.1f}" y="{TOP}" width="{end - begin:.1f}" height="{HEIGHT}"/>'
    for price in _round_prices(scale.low, scale.high):
        y = scale.y(price)
        yield f'<path class="grid" d="M{LEFT} {y:.1f}H{LEFT + CHART + PROFILE}"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_points(price, traded)}</text>'
    local = data.bars["ts"].dt.convert_time_zone(EXCHANGE_ZONE)
    hours = data.bars.filter((local.dt.minute() == 0) & (local.dt.hour() % 3 == 0))
    for at, clock in zip(
        hours["ts"], local.filter(local.is_in(hours["ts"].implode())).dt.strftime("%H:%M"), strict=True
    ):
        x = scale.x(at)
        yield f'<path class="grid" d="M{x:.1f} {TOP}V{TOP + HEIGHT}"/>'
        yield f'<text x="{x:.1f}" y="{TOP + HEIGHT + 16}" text-anchor="middle">{clock}</text>'


def _candles(scale: _Scale, candles: pl.DataFrame, minutes: int) -> Iterator[str]:
    """Yield rising and falling candles as one path each."""
    half = max(CHART / max(candles.height, 1) * 0.35, 0.4)
    paths = {"up": "", "down": ""}
    for row in candles.iter_rows(named=True):
        x = scale.x(row["ts"]) + half
        top, bottom = scale.y(max(row["open"], row["close"])), scale.y(min(row["open"], row["close"]))
        paths["up" if row["close"] >= row["open"] else "down"] += (
            f"M{x:.1f} {scale.y(row['high']):.1f}V{scale.y(row['low']):.1f}"
            f"M{x - half:.1f} {top:.1f}h{2 * half:.1f}V{max(bottom, top + 0.6):.1f}h{-2 * half:.1f}Z"
        )
    for name, path in paths.items():
        yield f'<path class="{name}" d="{path}"><title>{name} candles of {minutes} min</title></path>'


def _profile(scale: _Scale, data: SessionData) -> Iterator[str]:
    """Yield the volume at each price: the value area in blue, the VPOC in orange; nodes are marked at its left."""
    prices, volume = data.profile
    most, left = float(volume.max()) or 1.0, LEFT + CHART + 20
    vpoc, vah, val = (data.levels[name] for name in LEVELS)
    step = HEIGHT / (scale.high - scale.low) * float(prices[1] - prices[0]) if prices.size > 1 else 2.0
    paths = {"bar": "", "bar area": "", "bar vpoc": ""}
    for price, traded in zip(prices.tolist(), volume.tolist(), strict=True):
        inside = vah is not None and val is not None and val <= price <= vah
        name = "bar vpoc" if price == vpoc else "bar area" if inside else "bar"
        width = (PROFILE - 20) * traded / most
        paths[name] += f"M{left} {scale.y(price) - step / 2:.2f}h{width:.1f}v{step:.2f}h{-width:.1f}Z"
    for name, path in paths.items():
        yield f'<path class="{name}" d="{path}"/>'
    for kind, price, traded in data.nodes.select("kind", "price", "volume").iter_rows():
        label = f"{kind.upper()} {price:,g}: {traded:,.0f} contracts"
        yield f'<circle class="{kind}" cx="{left - 7}" cy="{scale.y(price):.1f}" r="4"><title>{label}</title></circle>'


def _developing(scale: _Scale, data: SessionData) -> Iterator[str]:
    """Yield developing VPOC, VAH and VAL; each point lies at the end of its bar, when it is known."""
    known = data.developing.drop_nulls(list(LEVELS))
    for name in LEVELS:
        points = zip(known["ts"] + BAR, known[name].to_list(), strict=True)
        path = "".join(f"{'L' if at else 'M'}{scale.x(ts):.1f} {scale.y(p):.1f}" for at, (ts, p) in enumerate(points))
        kind = "vpoc" if name == "vpoc" else "edge"
        yield f'<path class="level developing {kind}" d="{path}"><title>developing {name.upper()}</title></path>'


def _levels(scale: _Scale, data: SessionData, naked: pl.DataFrame) -> Iterator[str]:
    """Yield the session's levels, the initial balance and the naked VPOCs, with labels that do not overlap."""
    lines: list[tuple[str, str, float]] = []
    for name, kind in (("vpoc", "vpoc"), ("vah", "edge"), ("val", "edge"), ("ib_high", "ib"), ("ib_low", "ib")):
        if (price := data.levels[name]) is not None:
            lines.append((name.upper().replace("_", " "), kind, price))
    lines += [(f"naked {day}", "naked", price) for day, price in naked.select("session", "vpoc").rows()]
    lines.sort(key=lambda line: -line[2])
    for (label, kind, price), y in zip(lines, _spread([scale.y(price) for *_, price in lines]), strict=True):
        right = LEFT + CHART + (PROFILE if kind in ("vpoc", "edge") else 0)
        yield f'<path class="level {kind}" d="M{LEFT} {scale.y(price):.1f}H{right}"/>'
        yield f'<text x="{LEFT + CHART + PROFILE + 6}" y="{y + 4:.1f}">{label} {price:,.2f}</text>'


def _legend() -> str:
    entries = (("rth", "RTH"), ("bar area", "value area"), ("bar vpoc", "VPOC"), ("hvn", "HVN"), ("lvn", "LVN"))
    y, text = TOP + HEIGHT + 42, ""
    for number, (name, label) in enumerate(entries):
        x = LEFT + 110 * number
        text += f'<rect class="{name}" x="{x}" y="{y - 10}" width="14" height="12"/>'
        text += f'<text x="{x + 20}" y="{y}">{label}</text>'
    lines = "dotted: developing VPOC, VAH, VAL; dashed: initial balance, naked VPOCs"
    return f'{text}<text class="soft" x="{LEFT + 560}" y="{y}">{lines}</text>'


def _spread(wanted: Sequence[float], gap: float = 13.0) -> list[float]:
    """Return ascending positions moved down as far as needed for a distance of ``gap``."""
    found: list[float] = []
    for each in wanted:
        found.append(max(each, found[-1] + gap) if found else each)
    return found


def _round_prices(low: float, high: float, wanted: int = 8) -> Iterable[float]:
    """Return about ``wanted`` multiples of 1, 2 or 5 times a power of ten from low to high."""
    raw = (high - low) / wanted
    power = 10.0 ** np.floor(np.log10(raw))
    step = next(power * each for each in (1, 2, 5, 10) if power * each >= raw)
    return [float(each) for each in np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step]


def _points(price: float | None, traded: Instrument) -> str:
    """Return a price with the digits of a tick; n/a without one."""
    if price is None:
        return "n/a"
    digits = max(0, -int(np.floor(np.log10(traded.tick_size))))
    return f"{price:,.{digits + 1 if digits else 0}f}"
