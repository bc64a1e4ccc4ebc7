"""Measuring speed and memory: of a training step, of inference and of data, beside plain baselines."""
