"""A timetable whose runs are futures contracts: partition ``ESH25`` is ready when ESH25 stops being the front one.

``partition_date`` is that moment: 17:30 America/Chicago of the contract's scheduled roll, after the close. It is the
axis of a backfill's date range and the identity of a contract: a scheduled, a backfilled and a manual run of one
contract carry the same.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from airflow.exceptions import InvalidPartitionKeyError
from airflow.plugins_manager import AirflowPlugin
from airflow.sdk import timezone
from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction, Timetable

from vpoc_ml.market.nights import CHICAGO, CLOSE_OF_DAY

if TYPE_CHECKING:
    from pendulum import DateTime

    from vpoc_ml.market.contracts import Contract

GRACE = timedelta(days=14)
"""How late a scheduler without catchup still starts a contract that became ready while it was down."""
LAST_YEAR = 2069  # of two-digit years


class ContractPartitionTimetable(Timetable):
    """One run per contract of an instrument, from the contract ``first`` on, in order of expiry."""

    partitioned = True
    run_ordering = ("partition_date", "run_after")

    def __init__(self, first: str) -> None:
        from vpoc_ml.market.contracts import parse_contract

        self.first = parse_contract(first, where="first contract of the timetable")
        self.description = f"One run per {self.first.root} contract, at {CLOSE_OF_DAY:%H:%M} Chicago of its roll day"

    @property
    def summary(self) -> str:
        """Short text in the list of DAGs."""
        return f"each {self.first.root} contract, on its roll day"

    def serialize(self) -> dict[str, Any]:
        """Return what ``deserialize`` needs."""
        return {"first": self.first.code}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> ContractPartitionTimetable:
        """Return the timetable that ``serialize`` described."""
        return cls(**data)

    def contracts(self, since: datetime) -> Iterator[Contract]:
        """Yield the contracts that are ready at ``since`` or later, in order."""
        from vpoc_ml.market.contracts import Contract
        from vpoc_ml.market.instrument_files import MONTH_CODES
        from vpoc_ml.market.instruments import instrument

        months = sorted(MONTH_CODES.index(code) + 1 for code in instrument(self.first.root).months)
        for year in range(max(since.year - 1, self.first.year), LAST_YEAR + 1):
            for month in months:
                contract = Contract(self.first.root, year, month)
                if contract >= self.first and ready(contract) >= since:
                    yield contract

    def iter_partition_dagrun_infos(self, *, earliest: datetime, latest: datetime) -> Iterator[DagRunInfo]:
        """Yield the contracts that became ready in ``[earliest, latest]``, for a backfill.

        The date and time of day of a bound are read as Chicago's, also if it has another zone; ``latest`` without a
        time of day means that whole day. Contracts that are not ready yet are left out: their runs, and the backfill,
        would wait in the queue until they are.
        """
        last = self.localize_partition_datetime(latest)
        if last.astimezone(CHICAGO).time() == time():
            last += timedelta(days=1, microseconds=-1)
        last = min(last, timezone.utcnow())
        for contract in self.contracts(self.localize_partition_datetime(earliest)):
            if ready(contract) > last:
                return
            yield _info(contract)

    def next_dagrun_info_v2(
        self, *, last_dagrun_info: DagRunInfo | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        """Return the next contract to start by itself.

        With catchup: every contract after the last one, or from the start date on. Without catchup: a contract that
        became ready at most ``GRACE`` ago, so a scheduler that was down on the roll day still starts it, but a
        backfill of old contracts or the first start does not start all contracts since then.
        """
        now = timezone.utcnow()
        since = [restriction.earliest] if restriction.earliest else []
        if last_dagrun_info and last_dagrun_info.partition_date:
            since.append(last_dagrun_info.partition_date + timedelta(microseconds=1))
            grace = GRACE
        else:
            grace = GRACE if since else timedelta(0)
        if not (restriction.catchup and since):
            since.append(now - grace)
        following = next(self.contracts(max(since)), None)
        if following is None or (restriction.latest and ready(following) > restriction.latest):
            return None
        return _info(following)

    def localize_partition_datetime(self, dt: datetime) -> DateTime:
        """Return the moment at which Chicago's clocks show the date and time of ``dt``."""
        return _moment(dt.date(), dt.time())

    def _decode_partition_date(self, partition_key: str) -> datetime:
        """Return when the contract is ready; the API answers 400 with the text of the error."""
        from vpoc_ml.errors import ContractCodeError
        from vpoc_ml.market.contracts import parse_contract

        root = self.first.root
        try:
            contract = parse_contract(partition_key, where="partition key")
        except ContractCodeError as error:
            raise self._refusal(partition_key, error.reason or "that is no contract code") from error
        if contract.root != root:
            raise self._refusal(partition_key, f"this DAG builds the contracts of {root}")
        if partition_key != contract.code:
            raise self._refusal(partition_key, f"write it {contract.code}")
        if contract < self.first:
            raise self._refusal(partition_key, f"the first contract is {self.first.code}")
        return ready(contract)

    def _refusal(self, key: str, reason: str) -> InvalidPartitionKeyError:
        return InvalidPartitionKeyError(
            f"Expected a contract of {self.first.root} such as {self.first.root}H25 as partition key; was {key!r}:"
            f" {reason}."
        )

    def infer_manual_data_interval(self, *, run_after: DateTime) -> DataInterval:
        """Return an empty interval: the key of a manual run names what it builds, not a date."""
        return DataInterval.exact(run_after)

    def generate_run_id(
        self, *, run_type: Any, run_after: DateTime, data_interval: DataInterval | None, **extra: Any
    ) -> str:
        """Return an id that names the contract, if Airflow passes its key; a contract may have many runs."""
        parts = [extra.get("partition_key"), run_after.isoformat(), secrets.token_hex(3)]
        return str(run_type.generate_run_id(suffix="__".join(filter(None, parts))))


def ready(contract: Contract) -> DateTime:
    """Return the close of the contract's roll day: its last front session, as the exchange schedules the roll."""
    return _moment(contract.scheduled_roll, CLOSE_OF_DAY)


def _moment(day: date, clock: time) -> DateTime:
    moment: DateTime = timezone.coerce_datetime(datetime.combine(day, clock, CHICAGO).astimezone(UTC))
    return moment


def _info(contract: Contract) -> DagRunInfo:
    return DagRunInfo(ready(contract), None, partition_date=ready(contract), partition_key=contract.code)


class VpocTimetable(AirflowPlugin):
    """Registers the timetable: Airflow stores its class by name and refuses names it does not know."""

    name = "vpoc_timetable"
    timetables = [ContractPartitionTimetable]  # noqa: RUF012 - Airflow reads a plain class attribute
