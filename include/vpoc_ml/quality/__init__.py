"""The gates. This module silences Great Expectations before ``quality.validate`` imports it."""

import logging
import os

os.environ.setdefault("GX_ANALYTICS_ENABLED", "0")
logging.getLogger("great_expectations").setLevel(logging.WARNING)
