"""The steps of rolls that a person states in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from vpoc_ml.errors import MissingInputError, UnreadableFileError
from vpoc_ml.ingest.roll_inputs import read_stated_rolls
from vpoc_ml.market.instruments import instrument

ES = instrument("ES")


def read(folder: Path, text: str) -> dict[str, tuple[float, float | None]]:
    path = folder / "rolls.csv"
    path.write_text(text, encoding="utf-8")
    return {code: tuple(step) for code, step in read_stated_rolls(path, ES).items()}


def test_gaps_and_ratios_by_any_spelling_of_a_contract(tmp_path: Path) -> None:
    assert read(tmp_path, "contract,gap\nESM24,50.25\n\nES 09-24, -3 \n") == {
        "ESM24": (50.25, None),
        "ESU24": (-3.0, None),
    }
    assert read(tmp_path, "\ufeffcontract,gap,ratio\r\nESM24,50,1.01\r\nESU24,0,\r\n") == {
        "ESM24": (50.0, 1.01),
        "ESU24": (0.0, None),
    }
    assert read(tmp_path, "contract,gap\n") == {}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "an empty file"),
        ("contract;gap\nESM24;5\n", 1, "header contract,gap"),
        ("contract,gap\nESM24,5\nFOO,5\n", 3, "FOO,5"),
        ("contract,gap\nNQM24,5\n", 2, "no contract of ES"),
        ("contract,gap\nESN24,5\n", 2, "ES lists the months"),
        ("contract,gap\nESM24,\n", 2, "could not convert"),
        ("contract,gap\nESM24,five\n", 2, "five"),
        ("contract,gap\nESM24,nan\n", 2, "a number of points"),
        ("contract,gap,ratio\nESM24,5,0\n", 2, "a ratio a number above 0"),
        ("contract,gap,ratio\nESM24,5\n", 2, "2 fields"),
        ("contract,gap\n\nESM24,5\nES 06-24,6\n", 4, "ESM24 twice"),
    ],
)
def test_what_states_no_step_is_refused_with_its_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    with pytest.raises(UnreadableFileError, match=words) as caught:
        read(tmp_path, text)
    assert caught.value.line == line


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"nowhere\.csv"):
        read_stated_rolls(tmp_path / "nowhere.csv", ES)
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UnreadableFileError, match="UTF-8"):
        read_stated_rolls(tmp_path / "bytes.csv", ES)
