"""Steps, epochs, early stopping, monitoring and checkpoints."""
