"""Names of the stages in their order, and of the gates."""

STAGES = (
    "plan",
    "ingest",
    "gate-bars",
    "rolls",
    "profile",
    "features",
    "gate-features",
    "training-set",
    "gate-training-set",
    "train",
    "evaluate",
    "promote",
    "score",
)

GATES = tuple(name.removeprefix("gate-") for name in STAGES if name.startswith("gate-"))
