"""What each check means and what to do when it fails, in the words of a person who owns the data.

Keys are names of checks, or ``gate/check`` where a name means something else in one gate.
"""

from __future__ import annotations

from typing import NamedTuple

from vpoc_ml.quality.rules.leakage_gate import PROOF


class OwnerText(NamedTuple):
    """``meaning``: what a failure says about the data. ``action``: what to do."""

    meaning: str
    action: str


_VENDOR = "Compare the source line with the vendor's file; ask for a corrected file and run again."
_OUR_FILE = "Delete the artifact and run again; if it fails again, report a defect of this software."
_BUG = "Report a defect of this software with the run's folder; do not promote a model of this run."
_INPUT = "Look for the bar that explains it (Root causes); correct the vendor file and run again."
_VIX = "Download the VIX file again, compare the dates with the exchange's, and run again."
_SPLITS = "Choose other sessions or fewer folds in the configuration, or wait for more sessions."
_MISSING = "See the gap calendar; ask for the missing sessions."
_RETRAIN = "Read the training log; train again with a more conservative preset. The champion stays."
_OTHER = "Check that the file belongs to this contract; replace it or delete its bars from the lake."

_DRIFT = "Compare the feature's values with training; correct wrong data, else retrain and watch the scores."

_TEXTS = {
    "readable": OwnerText("The file is damaged or no Parquet file.", _OUR_FILE),
    "schema": OwnerText("A column is missing, unknown or of another type.", _OUR_FILE),
    "rows": OwnerText("There are no rows, so nothing was checked.", "Check that the delivery is complete."),
    "training-set/rows": OwnerText("A split has no labelled row, so nothing can be trained or tested.", _SPLITS),
    "null": OwnerText("Values are missing.", _VENDOR),
    "nan": OwnerText("Values are no numbers; one of them can spoil every window that reads it.", _VENDOR),
    "infinite": OwnerText("Values are infinite, usually after a division by zero.", _INPUT),
    "outside": OwnerText("Values are impossible by definition.", _INPUT),
    "tick": OwnerText("Prices lie between two ticks: another instrument, adjusted prices, or rounding.", _VENDOR),
    "empty": OwnerText("A column has no finite value at all.", _INPUT),
    "contract": OwnerText("Rows carry the code of another contract.", _OTHER),
    "order": OwnerText("Timestamps go back.", _OUR_FILE),
    "unique": OwnerText("A timestamp occurs twice.", _OUR_FILE),
    "hours": OwnerText("Bars lie outside the hours of the exchange: usually a wrong time zone.", _VENDOR),
    "minute": OwnerText("Timestamps are no whole minutes.", _VENDOR),
    "ohlc": OwnerText("High or low does not bound open and close.", _VENDOR),
    "constant": OwnerText("A column has one value only and carries no information.", _INPUT),
    "print": OwnerText("A single bar is far from the bars before and after it: a bad print.", _VENDOR),
    "jump": OwnerText("A bar opens far from the last close: a bad print, or bars of another contract.", _VENDOR),
    "stale": OwnerText("The same prices repeat: a feed that stood still.", _VENDOR),
    "silent": OwnerText("Many bars in a row of a front contract have no volume: a frozen feed.", _VENDOR),
    "far": OwnerText("A price is far from all others of its session: a bad print, or another contract.", _VENDOR),
    "duplicate": OwnerText("A feature equals another one in every row; it adds nothing.", _BUG),
    "opens": OwnerText("Open and close look exchanged.", "Check the order of the columns in the vendor's file."),
    "outlier": OwnerText("A bar has far more volume than the bars around it.", _VENDOR),
    "idle": OwnerText("Most bars of a session have no volume: quotes without trades.", _VENDOR),
    "profile": OwnerText("A session without traded volume has no volume profile.", "Nothing, on a holiday."),
    "quiet": OwnerText("A front contract hardly trades: another contract's bars, or a broken feed.", _OTHER),
    "fades": OwnerText("Volume falls when the contract becomes the front one.", _OTHER),
    "plausible": OwnerText("The instrument never had such a price.", _VENDOR),
    "implied": OwnerText("A session moved far more than the VIX implied.", _VENDOR),
    "level": OwnerText("The contract's price level does not fit its neighbours.", _OTHER),
    "copies": OwnerText("Sessions equal those of another contract.", _OTHER),
    "age": OwnerText("The VIX ends too early.", _VIX),
    "bars/late": OwnerText("The VIX is some sessions old.", _VIX),
    "dates": OwnerText("The VIX moves against the returns of another date: its dates are shifted.", _VIX),
    "future": OwnerText("The VIX file has dates after the run's clock.", _VIX),
    "bars/null": OwnerText("Values are missing; of the VIX: no close was known before the bar.", _VENDOR),
    "minutes": OwnerText("Minutes of the calendar have no bar.", "See the gap calendar; ask for the missing part."),
    "sessions": OwnerText("Whole sessions are missing.", _MISSING),
    "thin": OwnerText("Sessions have bars in fewer than half of their minutes.", "See the gap calendar."),
    "gaps": OwnerText("Many minutes in a row have no bar.", "See the gap calendar; ask for the missing part."),
    "ends": OwnerText("The bars end before the session that is due: stale data.", "Deliver newer bars."),
    "complete": OwnerText("The newest session ends before its close.", "Deliver the rest and run again."),
    "quarantine": OwnerText("Delivered rows are no bars; they were left out.", "Read their reasons in the quarantine."),
    "missing_sessions": OwnerText("Sessions with bars have no volume profile.", _OUR_FILE),
    "unknown_sessions": OwnerText("Volume profiles exist for sessions without bars.", _OUR_FILE),
    "calendar": OwnerText("Whole sessions have no profile, because their bars are missing.", _MISSING),
    "final": OwnerText("The session's levels are not the developing levels of its last bar.", _OUR_FILE),
    "inside": OwnerText("A level lies outside the prices of its bars.", _OUR_FILE),
    "ordered": OwnerText("VAL, VPOC and VAH are out of order.", _OUR_FILE),
    "traded": OwnerText("Volume was traded, but there is no level.", _OUR_FILE),
    "area": OwnerText("The value area holds too little or too much volume.", _OUR_FILE),
    "sum": OwnerText("Volume or number of bars differ from those of the bars.", _OUR_FILE),
    "extremes": OwnerText("High or low differ from those of the bars.", _OUR_FILE),
    "subset": OwnerText("A part of the session exceeds the session.", _OUR_FILE),
    "candidate/rows": OwnerText("There is nothing to check: no weights, or no rows to predict.", _BUG),
    "candidate/finite": OwnerText("Weights or predictions are no numbers; the model must not be used.", _RETRAIN),
    "candidate/outside": OwnerText("Predictions lie outside the range of a rank.", _RETRAIN),
    "candidate/constant": OwnerText(
        "The model predicts the same for every row. A stack does so when none of its learners shows skill.",
        "Nothing, if the report shows no skill either; else choose a lower rate or a simpler preset.",
    ),
    "features": OwnerText("The model has other features than its training set.", _BUG),
    "loss": OwnerText("A loss is no number: the training was unstable.", _RETRAIN),
    "worse": OwnerText("The model's loss is higher than that of a constant: it has learned noise.", _RETRAIN),
    "discarded": OwnerText("Many training steps had no finite loss or gradient.", _RETRAIN),
    "rollbacks": OwnerText("The training was unstable for a while and went back to earlier weights.", "Nothing."),
    "scored": OwnerText("Bars, VIX or features were too old, so nothing was scored.", "Deliver newer files."),
    "waits": OwnerText(
        "There is no champion, or no bar after its training data.", "Nothing; the next session has bars to score."
    ),
    "unscored": OwnerText("Bars have no score, because a feature has no value.", _INPUT),
    "lag": OwnerText("The newest score is older than the newest bar.", "Run vpoc-ml score; see the log of the stage."),
    "predictions/unique": OwnerText("A bar was scored twice.", _BUG),
    "predictions/finite": OwnerText("Scores are no numbers; do not trade them.", "Roll back to the version before."),
    "interval": OwnerText("A score lies outside its own interval.", _BUG),
    "direction": OwnerText("A direction is none of -1, 0, +1, or belongs to a row that abstained.", _BUG),
    "abstained": OwnerText(
        "Many rows are unlike the training rows: a new market, or bad bars.",
        "Look at the features' distributions; train again if the market has changed.",
    ),
    "predictions/known": OwnerText("A score claims another time than the end of its bar.", _BUG),
    "predictions/constant": OwnerText("All scores of the newest session are the same.", "Read the model's report."),
    "spread": OwnerText(
        "The scores of the newest session spread five times more or less than before.",
        "Compare the session's features with those of other sessions before you trade them.",
    ),
    "missing_bars": OwnerText("Bars have no row of features.", _OUR_FILE),
    "unknown_bars": OwnerText("Features exist for bars that do not.", _OUR_FILE),
    "young": OwnerText("The contract has traded too little for some checks.", "Nothing; more sessions settle it."),
    "late": OwnerText("Features have no value although their warm-up is over.", _INPUT),
    "beyond": OwnerText("Many values are more than 5 MAD from the median.", "Compare with a reference night."),
    "soft": OwnerText("Many values are outside their usual range: an unusual market, or bad bars.", _INPUT),
    "step": OwnerText(
        "The price step at a roll is estimated or unknown, because both contracts traded in no common minute.",
        "Deliver bars of both contracts around the roll.",
    ),
    "two_splits": OwnerText("A timestamp is in two splits: evaluation would read training rows.", _BUG),
    "known": OwnerText("A row has an unknown split.", _BUG),
    "labelled": OwnerText("Weights do not say which rows have a label.", _BUG),
    "after": OwnerText("A label ends before its bar does.", _BUG),
    "price": OwnerText("A labelled row has no price to trade at.", _INPUT),
    "balance": OwnerText("Nearly all labels go one way.", _SPLITS),
    "zero": OwnerText("Many labels are zero: prices hardly move at this horizon.", "Choose a longer horizon."),
    "purged": OwnerText("Rows begin before the labels of the split before have ended.", _BUG),
    "embargo": OwnerText("Too few sessions lie between two splits.", _SPLITS),
    "warm_up": OwnerText(
        "Warm-ups cost many rows, because a contract's predecessor is missing.", "Deliver the predecessors."
    ),
    "finite": OwnerText("A labelled row has no finite value.", _INPUT),
    "monitoring/late": OwnerText("A session is over and its bars have not come.", "Ask the vendor; deliver the bars."),
    "monitoring/scored": OwnerText("Nothing was scored, because data are too old.", "Do what the reason says."),
    "monitoring/reference": OwnerText(
        "The champion was trained before references were stored, so drift was not checked.",
        "Nothing; the next champion has one.",
    ),
    "monitoring/psi": OwnerText("The values lie in other deciles than the training rows: the market moved.", _DRIFT),
    "monitoring/ks": OwnerText("The distribution has moved away from that of the training rows.", _DRIFT),
    "monitoring/missing": OwnerText("More values are missing than in training.", _INPUT),
    "monitoring/mean": OwnerText("Returns have another mean than in training: a trend.", "Watch the live record."),
    "monitoring/scale": OwnerText(
        "Returns are larger or smaller than in training: another volatility, or wrong prices.",
        "Compare the prices with another source; retrain, and size positions by the new volatility.",
    ),
    "monitoring/up": OwnerText("Returns are positive more or less often than in training.", "Watch the live record."),
    "monitoring/fading": OwnerText(
        "The champion's live rank IC has fallen below half of its track record's.",
        "Stop trading its scores or roll back, until a better candidate is promoted.",
    ),
    "monitoring/coverage": OwnerText(
        "The intervals hold fewer returns than they state.", "Do not use the intervals; retrain on newer sessions."
    ),
}
_LEAKAGE = OwnerText("A value depends on data that was not known yet, or a check could not compare anything.", _BUG)
_UNKNOWN = OwnerText("The data differ from what the check expects.", "Read the failing rows and their source.")


def owner_text(gate: str, check: str) -> OwnerText:
    """Return the text of a check; one of the gate against look-ahead has the text of that gate."""
    if gate == "leakage" or check.startswith(PROOF):
        return _LEAKAGE
    return _TEXTS.get(f"{gate}/{check}") or _TEXTS.get(check) or _UNKNOWN


def has_text(gate: str, check: str) -> bool:
    """Return whether a check has a text of its own."""
    return owner_text(gate, check) is not _UNKNOWN
