"""The instrument that the DAGs work on, and what follows from it. Light: DAG files and the timetable import it."""

from __future__ import annotations

from vpoc_ml import environment
from vpoc_ml.config import resolve
from vpoc_ml.market.contracts import Contract
from vpoc_ml.market.instrument_files import MONTH_CODES
from vpoc_ml.market.instruments import Instrument, instrument
from vpoc_ml.market.nights import CHICAGO, CLOSE_OF_DAY

NIGHTLY_CRON = f"{CLOSE_OF_DAY.minute} {CLOSE_OF_DAY.hour} * * 1-5"
"""Every weekday when the session's files are complete, America/Chicago."""
MAINTENANCE_CRON = "0 6 * * 6"
"""Every Saturday morning, America/Chicago: no session is open and no nightly run is due."""
TIMEZONE = CHICAGO.key
FIRST_DELIVERY = (1997, 9)
"""Year and month of the first ES contract: no contract DAG goes further back."""


def dag_instrument() -> Instrument:
    """Return the instrument that ``VPOC_INSTRUMENT`` names, else that of the preset ``nightly``.

    Raises:
        InvalidValueError: no such instrument.
    """
    return instrument(environment.read(environment.INSTRUMENT) or resolve("nightly").data.instrument)


def instrument_override() -> dict[str, str]:
    """Return the setting ``data.instrument`` if ``VPOC_INSTRUMENT`` names one, for runs that do not choose one."""
    return {"data.instrument": dag_instrument().symbol} if environment.read(environment.INSTRUMENT) else {}


def first_contract(of: Instrument) -> str:
    """Return the code of the first contract of an instrument that has runs, such as ``ESU97``."""
    year, month = FIRST_DELIVERY
    months = sorted(MONTH_CODES.index(code) + 1 for code in of.months)
    following = [each for each in months if each >= month]
    return Contract(of.symbol, year, following[0]).code if following else Contract(of.symbol, year + 1, months[0]).code
