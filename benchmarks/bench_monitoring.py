"""False alarms and power of gate ``monitoring`` on a stationary market at the level of features.

    python benchmarks/bench_monitoring.py                # 100 markets: a minute
    python benchmarks/bench_monitoring.py --markets 300

Each market has training sessions of 60 rows and one week after them. Eight features are fast (heavy tails, no memory),
eight follow a session level with autocorrelation 0.87 (a half-life of a week), four are such a level and hardly
anything else, as the VIX is. The table states how often a feature, and a night with any of the 20, warns or is an
error, and beside them the textbook limit of PSI, 0.25. Below: how often a planted shift of one fast feature is found.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from vpoc_ml.config import MonitoringConfig
from vpoc_ml.monitoring.limits import distance_limits
from vpoc_ml.monitoring.reference import column_reference, measure

MINUTES, BLOCK = 60, 5
KINDS = ("fast",) * 8 + ("slow",) * 8 + ("level",) * 4
TEXTBOOK = 0.25
Floats = NDArray[np.float64]


def feature(draw: np.random.Generator, kind: str, sessions: int) -> Floats:
    """Return the rows of one stationary feature."""
    rows = sessions * MINUTES
    if kind == "fast":
        return draw.standard_t(4, rows)
    day = np.empty(sessions)
    day[0] = draw.standard_normal()
    for number in range(1, sessions):
        day[number] = 0.87 * day[number - 1] + np.sqrt(1 - 0.87**2) * draw.standard_normal()
    return np.repeat(day, MINUTES) + (0.5 if kind == "slow" else 0.02) * draw.standard_normal(rows)


def alarms(values: Floats, sessions: int, config: MonitoringConfig, shift: float = 0.0) -> tuple[bool, bool, bool]:
    """Return whether the last block warns, is an error, and exceeds the textbook limit of PSI."""
    known, new = values[: sessions * MINUTES], values[sessions * MINUTES :] + shift
    block = np.repeat(np.arange(sessions) // BLOCK, MINUTES)
    reference = column_reference("feature", known, block, sessions // BLOCK)
    found = measure(reference, new)
    limits = {name: distance_limits(reference, name, config) for name in found}
    errors = [limit.error is not None and found[name] > limit.error for name, limit in limits.items()]
    warns = any(value > limits[name].warning for name, value in found.items())
    return warns, any(errors), found["psi"] > TEXTBOOK


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markets", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    config = MonitoringConfig()
    print(f"{arguments.markets} markets, seed {arguments.seed}: share of nights in percent")
    print(f"{'training sessions':>18} {'feature':>8} {'warning':>8} {'error':>6} {'textbook':>9}")
    for sessions in (150, 250, 500, 750):
        draw = np.random.default_rng(arguments.seed)
        found = np.array(
            [
                [alarms(feature(draw, kind, sessions + BLOCK), sessions, config) for kind in KINDS]
                for _ in range(arguments.markets)
            ]
        )
        for kind in ("fast", "slow", "level"):
            shares = 100 * found[:, [each == kind for each in KINDS]].mean((0, 1))
            print(f"{sessions:>18} {kind:>8} {shares[0]:>8.1f} {shares[1]:>6.1f} {shares[2]:>9.1f}")
        night = 100 * found.any(1).mean(0)
        print(f"{sessions:>18} {'any':>8} {night[0]:>8.1f} {night[1]:>6.1f} {night[2]:>9.1f}")
    print("\nshift of one fast feature in standard deviations, 250 training sessions: warning, error")
    draw = np.random.default_rng(arguments.seed)
    for shift in (0.25, 0.5, 1.0):
        rows = [alarms(feature(draw, "fast", 255), 250, config, shift * np.sqrt(2.0)) for _ in range(arguments.markets)]
        shares = 100 * np.array(rows).mean(0)
        print(f"{shift:>18} {shares[0]:>8.1f} {shares[1]:>6.1f}")


if __name__ == "__main__":
    main()
