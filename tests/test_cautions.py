"""What a report says before it is relied on."""

from __future__ import annotations

from prunecvt.report.cautions import measured_otherwise
from prunecvt_passes.target import Target
from report_examples import latency


def test_a_target_that_the_last_race_contradicts_is_pointed_out() -> None:
    """Said only of the judge, beyond what counts as met, and where the interval leaves it out."""
    target = Target("latency", 0.5)
    off = latency(backend="onnxruntime", ratio=0.6, ratio_ci95=(0.58, 0.62))
    (said,) = measured_otherwise(target, ["onnxruntime"], [off])
    assert "0.600 of the original's time" in said
    assert measured_otherwise(target, ["openvino"], [off]) == []
    for changes in ({"ratio": 0.51}, {"ratio_ci95": (0.49, 0.7)}):
        row = off.model_copy(update=changes)
        assert measured_otherwise(target, ["onnxruntime"], [row]) == []
    assert measured_otherwise(Target("macs", 0.5), ["onnxruntime"], [off]) == []
    assert measured_otherwise(None, ["onnxruntime"], [off]) == []
