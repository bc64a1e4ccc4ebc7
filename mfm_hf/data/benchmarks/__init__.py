"""The benchmarks of the field, read from their downloads as they are: no preparation, no renaming."""
