"""Proof that no feature, label or fitted number knows the future: of any builder, the product's own among them."""
