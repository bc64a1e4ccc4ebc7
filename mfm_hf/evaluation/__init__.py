"""Measuring and showing what a network predicts."""
