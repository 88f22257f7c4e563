"""``python first_night.py LAKE``: a market in ``raw/`` of a lake, and a night whose model a person promotes.

What the rule can learn from it is little, so it refuses; the person overrides it. A champion to compare with is there.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path

from vpoc_ml import pipeline
from vpoc_ml.synthetic.generate import write_market

RUN = "first-night"


def main(lake: Path) -> None:
    raw, now = lake / "raw", datetime.now(UTC)
    write_market(raw, contracts=1, seed=7, mode="signal")
    pipeline.start_run(str(lake), RUN, "smoke", {"machine.device": "cpu"}, str(raw), None, now)
    pipeline.run_until(str(lake), RUN, "decide", now)
    done = pipeline.promote_by_hand(str(lake), RUN, now, "a champion to begin with", name="anna", override=True)
    assert done.state == "promoted", done


if __name__ == "__main__":
    main(Path(sys.argv[1]))
