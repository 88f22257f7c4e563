"""Where artifacts live: atomic writes, manifests, hashes."""
