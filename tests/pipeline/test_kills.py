"""A run that is killed at any moment ends well when it is started again, with the same artifacts.

``VPOC_KILLS=90`` is the long form, ``VPOC_KILL_SEED`` repeats one. The seed is printed.
"""

from __future__ import annotations

import json
import random

import pytest

from vpoc_ml import environment

from . import killed_run

pytestmark = pytest.mark.slow

KILLS = int(environment.read(environment.KILLS) or 2)
PER_ROUND = 5
FOLD_FILES = ("fold.json", "predictions.parquet", "predictions.json", "best_model.safetensors")
DAMAGES = {
    "a flipped bit": lambda content, at: content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :],
    "a halved file": lambda content, at: content[: len(content) // 2],
    "an empty file": lambda content, at: b"",
}


@pytest.fixture
def chance():
    seed = int(environment.read(environment.KILL_SEED) or random.SystemRandom().randrange(10**6))
    print("seed", seed)
    return random.Random(seed)


def damage(lake, chance):
    """Damage every artifact of the contract, of the VIX and of the rolls, with its manifest, and the trained model."""
    stored = [path for path in sorted(lake.glob("*/ES/ESH23.*")) if path.parts[-3] != "reports"]
    stored += [*sorted(lake.glob("vix/*.*")), *sorted(lake.glob("roll/*.*"))]
    stored += sorted(file for file in lake.glob("track/ES/*/*") if file.name in FOLD_FILES)
    stored += [*sorted(lake.glob("trained/*.json")), *sorted(lake.glob("leakage/*.json"))]
    assert len(stored) >= 16
    for path in stored:
        name = chance.choice(list(DAMAGES))
        content = path.read_bytes()
        print(f"{name}: {path.relative_to(lake)}")
        path.write_bytes(DAMAGES[name](content, chance.randrange(len(content))))


def test_killed_and_damaged_runs_end_with_the_artifacts_of_an_undisturbed_one(delivery, tmp_path, chance):
    lake = tmp_path / "undisturbed"
    code, seconds = killed_run.run(lake, delivery)
    assert code == 0
    print({stage: round(spent, 2) for stage, spent in seconds.items()})
    assert tuple(seconds) == killed_run.WORK
    expected = killed_run.artifacts(lake)
    assert len(expected) >= 10

    left = KILLS
    while left:  # in turns: the last lake with its artifacts damaged, and a new one
        if (KILLS - left) // PER_ROUND % 2:
            lake = tmp_path / f"round-{left}"
        else:
            damage(lake, chance)
        count = min(left, PER_ROUND)
        left -= count
        for stage in sorted(chance.sample(killed_run.WORK, count), key=killed_run.WORK.index):
            after = chance.uniform(0.0, seconds[stage])
            print(f"kill in {stage} after {after:.3f} s, {left} to go", flush=True)
            killed_run.run(lake, delivery, kill_in=stage, after=after)
            assert killed_run.alive(lake) == []
        assert killed_run.run(lake, delivery)[0] == 0
        assert killed_run.artifacts(lake) == expected
        assert killed_run.temporary(lake) == []
        assert [json.loads(path.read_bytes())["run"] for path in lake.glob("trained/*.json")] == ["night"]
