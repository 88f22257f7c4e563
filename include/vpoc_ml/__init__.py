"""Nightly retraining of ES futures models: volume profiles, causal features, honest promotion."""

__version__ = "1.0.0"
