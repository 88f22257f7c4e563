"""From a run folder to a model: validation, subprocess, fallback presets, saving."""
