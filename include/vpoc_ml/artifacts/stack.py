"""A fitted stack: the weights of its learners and the slope of its output."""

from __future__ import annotations

from vpoc_ml.artifacts.json_artifact import JsonArtifact
from vpoc_ml.artifacts.model_card import ModelPart


class Stack(JsonArtifact):
    """How the scores of several learners become one score in rank units.

    Attributes:
        parts: learners and their weights, non-negative with sum 1, in the order of the scores.
        slope: what a unit of the weighted score counts, 0 to 1.5; with 0 the stack is the constant.
        slope_error: standard error of the slope over sessions, before it is shrunk; 0 without a slope.
        simple: learner that has weight 1 as long as nothing shows that the others help.
        shrinkage: 0 if ``simple`` has all the weight, up to 1 for the weights that fit best.
        sessions: sessions of the rows it was fitted on.
        zero_rank: score of the stack that stands for an unchanged price.
    """

    parts: tuple[ModelPart, ...]
    simple: str
    sessions: int
    slope: float = 0.0
    slope_error: float = 0.0
    shrinkage: float = 0.0
    zero_rank: float = 0.5
