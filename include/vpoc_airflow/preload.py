"""Libraries that are loaded once, before the processes of tasks are forked, so that no task imports them.

The executor of `make up` (``local_executor``) and the workers of a cluster (``celery_config``) call ``preload``.
"""

from __future__ import annotations

import importlib

PRELOADED = (
    "vpoc_ml.quality",  # first: it switches off the analytics of the next one
    "great_expectations",
    "numba",
    "pandas",
    "pandas_market_calendars",
    "scipy.special",
)
"""Modules that are loaded. Every gate saves 3 CPU seconds, every other task 0.7.

Polars and torch must not be among them: they start threads when they are loaded, which a forked process does not have.
"""


def preload() -> None:
    """Load ``PRELOADED``."""
    for name in PRELOADED:
        importlib.import_module(name)
