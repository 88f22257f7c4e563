"""Extension points: own features, gate checks, learners and file readers, without a change of the product.

A plugin is a list of objects in a module of an installed package, named by an entry point, or in the file
``plugins.py`` of a lake:

    list        entry point group     objects
    FEATURES    vpoc_ml.features      ``OwnFeature``
    CHECKS      vpoc_ml.checks        ``OwnCheck``
    MODELS      vpoc_ml.models        ``OwnLearner``
    READERS     vpoc_ml.readers       readers, see ``vpoc_ml.ingest.parsing.reader.Reader``

``load`` finds them and makes them the active ones of this process; each layer takes the active ones of its kind from
``registered``. This package imports no layer that computes.
"""

from __future__ import annotations

from vpoc_ml.plugins.declared import OwnCheck, OwnFeature, OwnLearner

__all__ = ["OwnCheck", "OwnFeature", "OwnLearner"]
