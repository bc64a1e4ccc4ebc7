"""Unsupervised domain adaptation: views, objectives, recipes, and the trainer."""
