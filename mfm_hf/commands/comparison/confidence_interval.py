"""How far a mean over few seeds can be trusted."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

# 97.5 % points of Student's t for 1, 2, ... degrees of freedom: NIST/SEMATECH e-Handbook of Statistical Methods,
# 1.3.6.7.2, column 0.975.
T_QUANTILES = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
)  # fmt: skip


def confidence_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % confidence interval of the mean of normally distributed values, by Student's t.

    Args:
        values: Independent of each other, such as the gains of several seeds. Beyond 21 of them the last quantile of
            the table is used, which makes the interval at most 7 % too wide.

    Returns:
        Lower and upper bound; None for fewer than two values, which say nothing about their spread.
    """
    if len(values) < 2:
        return None
    quantile = T_QUANTILES[min(len(values) - 1, len(T_QUANTILES)) - 1]
    half = quantile * statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.fmean(values)
    return mean - half, mean + half
