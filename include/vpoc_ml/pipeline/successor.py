"""The stage that keeps the next contract's features right: they read the last sessions of this contract."""

from __future__ import annotations

from vpoc_ml.pipeline.contract_stages import features_contract
from vpoc_ml.pipeline.run import Result, Run, stage


@stage("features-successor")
def features_successor(run: Run, contract: str) -> Result:
    """Rebuild the features of the contract that follows ``contract`` at the roll, where they are stale.

    Returns ``successor``, its code or None, and ``rebuilt``, the list of what was rebuilt. A successor that has no
    sessions yet is left to its own run, which finds this contract's bars. So runs of single contracts may go in any
    order, or at the same time, and end with the same features.
    """
    roll = run.lake.read_frame(run.roll_key(), ["contract"])["contract"].to_list()
    following = roll[roll.index(contract) + 1 :] if contract in roll else []
    if not following or run.lake.manifest(run.key("sessions", following[0])) is None:
        return {"successor": following[0] if following else None, "rebuilt": [], "skipped": True}
    made = features_contract(str(run.lake.root), run.name, following[0])
    return {**made, "successor": following[0], "rebuilt": [] if made["skipped"] else following[:1]}
