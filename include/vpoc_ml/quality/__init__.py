"""The gates. Great Expectations is told to be quiet here, before ``quality.judge`` imports it."""

import logging
import os

os.environ.setdefault("GX_ANALYTICS_ENABLED", "0")
logging.getLogger("great_expectations").setLevel(logging.WARNING)
