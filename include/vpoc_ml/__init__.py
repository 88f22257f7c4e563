"""Nightly retraining of ES futures models: volume profiles, causal features, honest promotion."""

__version__ = "0.1.0"
