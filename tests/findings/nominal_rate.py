"""Coverage of intervals in simulations."""

import numpy as np

NOMINAL = 0.95


def holds(hits, nominal=NOMINAL):
    """Whether a share of hits is the nominal rate, within 3 standard errors of the simulation."""
    hits = np.asarray(hits, dtype=float)
    return abs(hits.mean() - nominal) <= 3 * np.sqrt(nominal * (1 - nominal) / len(hits))
