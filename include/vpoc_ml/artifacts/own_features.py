"""What a run's own features are called and how they are defined, for pages: they load no plugin."""

from __future__ import annotations

from vpoc_ml.artifacts.json_artifact import JsonArtifact


class OwnFeatureText(JsonArtifact):
    """Name, family, formula, unit and usual range of an own feature; ``soft`` is None where it is not bounded."""

    name: str
    family: str
    formula: str
    unit: str
    soft: tuple[float, float] | None = None


class OwnFeatureTexts(JsonArtifact):
    """``own_features.json`` of a run with own features."""

    features: tuple[OwnFeatureText, ...]
