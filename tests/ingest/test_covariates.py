"""The setting ``ingest.covariates``."""

from __future__ import annotations

from datetime import time

import pytest

from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import InvalidValueError
from vpoc_ml.ingest.vix.covariates import Covariate, covariates
from vpoc_ml.ingest.vix.index_files import PublicationTime


def test_entries_name_index_file_and_publication() -> None:
    config = IngestConfig(
        covariates=("vvix", "VIX9D = /data/VIX9D_History.csv", "DGS2=rates.csv@08:30+1", "SKEW@09:00")
    )
    assert covariates(config) == (
        Covariate("VVIX", None, PublicationTime(time(16, 15), 0)),
        Covariate("VIX9D", "/data/VIX9D_History.csv", PublicationTime(time(16, 15), 0)),
        Covariate("DGS2", "rates.csv", PublicationTime(time(8, 30), 1)),
        Covariate("SKEW", None, PublicationTime(time(9, 0), 0)),
    )
    assert [each.column for each in covariates(config)] == ["vvix", "vix9d", "dgs2", "skew"]


@pytest.mark.parametrize(
    ("entries", "match"),
    [
        (("9D",), "NAME"),
        (("VVIX@4pm",), "NAME"),
        (("VVIX@25:00",), "a time of day"),
        (("VIX",), "a name that is no column"),
        (("close=x.csv",), "a name that is no column"),
        (("VVIX", "vvix=other.csv"), "a name that is no column"),
    ],
)
def test_impossible_entries_are_refused(entries: tuple[str, ...], match: str) -> None:
    with pytest.raises(InvalidValueError, match=match):
        covariates(IngestConfig(covariates=entries))
