"""Leakage checks: no feature, label or fitted number of a builder depends on the future.

``prove`` runs every check on generated markets. ``invariance.check_sample`` repeats some of them on the run's own
bars. The builder is a parameter; ``product_builders`` has the product's own.
"""
