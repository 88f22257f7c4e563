"""Columns of the stored tables: names, order and dtypes. Prices in points, volumes in contracts, times in UTC.

Column ``reason`` of the quarantine holds one of the reasons below.
"""

from __future__ import annotations

import polars as pl

from vpoc_ml.market import roll_table

Schema = dict[str, pl.DataType]

TIME = pl.Datetime("us", "UTC")
PRICES = ("open", "high", "low", "close")
OHLCV = (*PRICES, "volume")

BARS: Schema = {
    "ts": TIME,
    "contract": pl.String(),
    "session": pl.Date(),
    "rth": pl.Boolean(),
    **dict.fromkeys(PRICES, pl.Float64()),
    "volume": pl.Int64(),
    "vix": pl.Float64(),
}
"""One row a minute, sorted by unique ``ts``, the START of the bar. Covariates are further columns after ``vix``."""

QUARANTINE: Schema = {
    "line": pl.Int64(),
    "ts": TIME,
    **dict.fromkeys(PRICES, pl.Float64()),
    "volume": pl.Int64(),
    "reason": pl.String(),
    "text": pl.String(),
    "file": pl.String(),
}
"""One row for each delivered row that is no bar; ``reason`` is one of ``quarantine_reasons``."""

INDEX_VALUES: Schema = {"date": pl.Date(), "close": pl.Float64(), "available_at": TIME}
"""Values of the VIX or of a covariate, sorted by ``available_at``, the time from which a value is known."""

OPEN_INTEREST: Schema = {"contract": pl.String(), "session": pl.Date(), "open_interest": pl.Int64()}
"""Contracts held at the end of a session."""

LEVELS = ("vpoc", "vah", "val")
"""Null where no volume was traded: a profile without volume has no level."""
OPENING = ("ib_high", "ib_low", "or_high", "or_low")
"""High and low of the first 60 and of the first 10 minutes of RTH."""

SESSION_FIGURES: Schema = {
    "bars": pl.Int32(),
    **dict.fromkeys(PRICES, pl.Float64()),
    "volume": pl.Int64(),
    **dict.fromkeys((*LEVELS, "va_volume", "range"), pl.Float64()),
}
SESSIONS: Schema = {
    "contract": pl.String(),
    "session": pl.Date(),
    **SESSION_FIGURES,
    **{f"rth_{name}": dtype for name, dtype in SESSION_FIGURES.items()},
    **dict.fromkeys(OPENING, pl.Float64()),
    **{f"overnight_{name}": dtype for name, dtype in SESSION_FIGURES.items()},
}
"""One row a session: its bars and profile, then those of RTH, the initial balance and opening range, the overnight."""

DEVELOPING: Schema = {
    "ts": TIME,
    "contract": pl.String(),
    "session": pl.Date(),
    **dict.fromkeys(LEVELS, pl.Float64()),
}
"""One row a bar: the session's levels so far."""

ROLLS: Schema = roll_table.ROLLS
"""One row for each front contract. ``gap`` is new minus old in points, ``ratio`` is new over old."""

FEATURE_KEYS: Schema = {"ts": TIME, "contract": pl.String(), "session": pl.Date()}

TRAINING_KEYS: Schema = {
    **FEATURE_KEYS,
    "split": pl.String(),
    "label_end": TIME,
    "ret": pl.Float64(),
    "ret_close": pl.Float64(),
    "y": pl.Float32(),
    "weight": pl.Float32(),
    "entry_price": pl.Float64(),
    "exit_price": pl.Float64(),
    "last_ret": pl.Float64(),
}

TRACK_KEYS: Schema = {
    **FEATURE_KEYS,
    "label_end": TIME,
    "ret": pl.Float64(),
    "ret_close": pl.Float64(),
    "y": pl.Float64(),
    "entry_price": pl.Float64(),
    "exit_price": pl.Float64(),
}
"""Rows of a track record, before the columns of its learners: for each one its rank and ``<learner>_zero``, Float64."""

PREDICTIONS: Schema = {
    **FEATURE_KEYS,
    "known_at": TIME,
    "prediction": pl.Float64(),
    "low": pl.Float64(),
    "low_ticks": pl.Float64(),
    "high": pl.Float64(),
    "high_ticks": pl.Float64(),
    "distance": pl.Float64(),
    "abstained": pl.Boolean(),
    "direction": pl.Int8(),
    "model_version": pl.Int64(),
    "instrument": pl.String(),
    "horizon": pl.String(),
    "target": pl.String(),
}
"""One row for each scored bar. ``known_at`` is the end of the bar, the earliest time at which the prediction can exist.
``prediction``, ``low`` and ``high`` are in rank units, the ``_ticks`` in ticks from the close; bounds are null without
intervals. ``direction`` is -1, 0 or +1, and 0 where the row ``abstained``."""

SPLITS = ("train", "validation", "test")

DAILY_FIGURES: Schema = {
    "contract": pl.String(),
    "session": pl.Date(),
    "last": TIME,
    **dict.fromkeys(PRICES, pl.Float64()),
    "volume": pl.Float64(),
    "bars": pl.Int64(),
}
"""One row a contract and session: ``last`` is the start of the session's last bar, ``bars`` the number of its bars."""

GATE_HISTORY: Schema = {
    "run": pl.String(),
    "time": TIME,
    "gate": pl.String(),
    "contract": pl.String(),
    "column": pl.String(),
    "check": pl.String(),
    "failed": pl.String(),
    "count": pl.Int64(),
    "rows": pl.Int64(),
    "share": pl.Float64(),
    "warn_share": pl.Float64(),
    "error_share": pl.Float64(),
    "warn_count": pl.Int64(),
    "error_count": pl.Int64(),
    "unit": pl.String(),
    "expected": pl.String(),
}
"""One row a run, gate, contract, column and check: ``failed`` is the worst severity that failed, null if none did;
``count`` is null where nothing could be measured. A limit is null where there is none; ``expected`` completes the
sentence "expected ..."."""

DEFECT_COUNTS = ("null", "nan", "pos_inf", "neg_inf", "late", "below", "above", "soft", "beyond")

COLUMN_PROFILE: Schema = {
    "contract": pl.String(),
    "column": pl.String(),
    "dtype": pl.String(),
    "rows": pl.Int64(),
    **dict.fromkeys(DEFECT_COUNTS, pl.Int64()),
    **dict.fromkeys(("min", "max", "mean", "std", "median", "mad"), pl.Float64()),
    "sampled": pl.Int64(),
}
"""One row a contract and column: counts of defects, statistics of the finite values, and the size of the sample that
``median`` and ``mad`` are of."""

DISTRIBUTIONS: Schema = {
    "column": pl.String(),
    "stage": pl.String(),
    "split": pl.String(),
    "rows": pl.Int64(),
    "missing": pl.Int64(),
    "low": pl.Float64(),
    "high": pl.Float64(),
    "counts": pl.List(pl.Int64()),
    "mean": pl.Float64(),
    "std": pl.Float64(),
}
"""One row a feature, stage (``raw`` or ``scaled``) and split: counts in equal bins from ``low`` to ``high``, null
without a finite value."""

FAILING_ROWS: Schema = {
    "contract": pl.String(),
    "column": pl.String(),
    "check": pl.String(),
    "severity": pl.String(),
    "ts": TIME,
    "session": pl.Date(),
    "value": pl.Float64(),
}
"""One row for each defective row of a failed check, in the check's order; ``ts`` is null where a check finds sessions.
``value`` is the column's, null where there is none."""

FAILING_BARS: Schema = {
    "contract": pl.String(),
    "row": pl.Int64(),
    "ts": TIME,
    "session": pl.Date(),
    **dict.fromkeys(PRICES, pl.Float64()),
    "volume": pl.Int64(),
}
"""Bars as a gate found them, around defective rows; ``row`` is the number of the bar in its contract's file."""


UNPARSABLE = "unparsable"
OUTSIDE_HOURS = "outside exchange hours"
BELOW_MIN_PRICE = "price below minimum"
OFF_TICK = "price off the tick grid"
OHLC = "high or low does not bound open and close"
NEGATIVE_VOLUME = "negative volume"
DUPLICATE = "duplicate"
CONFLICTING = "conflicting duplicate"
BAD_PRINT = "isolated bad print"

LIVE_RECORD: Schema = {
    "session": pl.Date(),
    "version": pl.Int64(),
    "rows": pl.Int64(),
    "forecast_mean": pl.Float64(),
    "forecast_square": pl.Float64(),
    "return_mean": pl.Float64(),
    "product_mean": pl.Float64(),
    "constant": pl.Float64(),
    "accuracy": pl.Float64(),
}
"""How a preset did on sessions after its models were fixed: the means that its rank IC is computed from
(``evaluation.session_scores.session_ic``), Huber loss saved against the constant, direction accuracy. ``version``
predicted the session's last row."""
