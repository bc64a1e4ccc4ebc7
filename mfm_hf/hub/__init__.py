"""Publishing checkpoints, and reading those of other code bases."""
