"""From a variance to a standard deviation, with the error that goes along."""

from __future__ import annotations

import math


def root_with_error(variance: float, standard_error: float) -> tuple[float, float]:
    """Root of a variance, and its standard error by the delta method, ``SE / (2 S)``.

    The error of a zero is 0 if that of the variance is, else ``nan``; so is all of an unknown one.
    """
    root = math.sqrt(variance)
    if root > 0:
        return root, standard_error / (2 * root)
    return root, standard_error if root == standard_error == 0 else math.nan
