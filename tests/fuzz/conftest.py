"""Inputs that nobody would write, drawn by hypothesis.

A few hundred cases by default, always the same; 10,000 new ones under HYPOTHESIS_PROFILE=long.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# Folders are made anew in every case where that matters, and some cases are slow to draw.
LENIENT = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck), "print_blob": True}

settings.register_profile("ci", derandomize=True, **LENIENT)
settings.register_profile("long", **LENIENT)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
