"""A run that is killed at any moment ends well when it is started again, with the same artifacts.

``VPOC_ML_KILLS=90`` is the long form, ``VPOC_ML_KILL_SEED`` repeats one. The seed is printed.
"""

from __future__ import annotations

import json
import os
import random

import pytest

from . import killed_run

KILLS = int(os.environ.get("VPOC_ML_KILLS", "2"))
DAMAGES = {
    "a flipped bit": lambda content, at: content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :],
    "a halved file": lambda content, at: content[: len(content) // 2],
    "an empty file": lambda content, at: b"",
}


@pytest.fixture
def chance():
    seed = int(os.environ.get("VPOC_ML_KILL_SEED") or random.SystemRandom().randrange(10**6))
    print("seed", seed)
    return random.Random(seed)


def test_killed_and_damaged_runs_end_with_the_artifacts_of_an_undisturbed_one(delivery, tmp_path, chance):
    undisturbed = tmp_path / "undisturbed"
    code, seconds = killed_run.run(undisturbed, delivery)
    assert code == 0
    print({stage: round(spent, 2) for stage, spent in seconds.items()})
    assert tuple(seconds) == killed_run.WORK
    expected = killed_run.artifacts(undisturbed)
    assert len(expected) >= 10

    left, lake = KILLS, tmp_path / "round"
    while left:
        lake = tmp_path / f"round-{left}"
        count = min(left, len(killed_run.WORK))
        left -= count
        for stage in sorted(chance.sample(killed_run.WORK, count), key=killed_run.WORK.index):
            after = chance.uniform(0.0, seconds[stage])
            print(f"kill in {stage} after {after:.3f} s")
            killed_run.run(lake, delivery, kill_in=stage, after=after)
            assert killed_run.alive(lake) == []
        assert killed_run.run(lake, delivery)[0] == 0
        assert killed_run.artifacts(lake) == expected
        assert killed_run.temporary(lake) == []

    stored = [
        path for path in lake.rglob("ESH23.*") if "reports" not in path.parts and path.parent.parent.parent == lake
    ]
    assert {path.suffix for path in stored} == {".json", ".parquet"}
    for number, path in enumerate(sorted(stored)):
        name, damage = list(DAMAGES.items())[number % len(DAMAGES)]
        content = path.read_bytes()
        print(f"{name}: {path.relative_to(lake)}")
        path.write_bytes(damage(content, chance.randrange(len(content))))
    trained = next(lake.glob("trained/*.json"))
    trained.write_bytes(trained.read_bytes()[:40])
    assert killed_run.run(lake, delivery)[0] == 0
    assert killed_run.artifacts(lake) == expected
    assert json.loads(trained.read_bytes())["run"] == "night"
