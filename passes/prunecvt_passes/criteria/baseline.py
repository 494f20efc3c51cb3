"""The criterion ``random``: what any other has to beat."""

from __future__ import annotations

import numpy as np

from prunecvt_passes.criteria.evidence import Evidence, Floats


def random(given: Evidence) -> Floats:
    """Uniform noise from the seed."""
    return np.random.default_rng(given.seed).random(given.groups.total)
