"""Masked Feature Modeling: the Rebuilder, and the training classes that carry one."""
