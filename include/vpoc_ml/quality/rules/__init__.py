"""What each gate checks: one module per gate, and one per group of checks that read the same figures."""
