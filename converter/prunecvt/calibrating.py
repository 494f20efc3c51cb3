"""The pass that reads unlabelled data for criteria, allocation and recovery."""

from __future__ import annotations

from prunecvt.trials import TrialRequest, calibration_feeds
from prunecvt_passes.normalise import Dense
from prunecvt_passes.recovery.calibration import NO_CALIBRATION, Calibration, split


def calibrate(dense: Dense, request: TrialRequest) -> Calibration:
    """Reads the calibration data and holds a part of it out; nothing where none is given.

    Raises:
        UsageError: E230 to E237, the data cannot be read or does not fit.
    """
    if request.calib is None:
        return NO_CALIBRATION
    return split(list(calibration_feeds(dense.graph.model, request.calib)))
