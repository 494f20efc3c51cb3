"""The runtimes by name, light to import."""

from __future__ import annotations

from typing import Literal

Backend = Literal["onnxruntime", "openvino"]
JUDGES: dict[str, tuple[Backend, ...]] = {
    "onnxruntime": ("onnxruntime",),
    "openvino": ("openvino",),
    "both": ("onnxruntime", "openvino"),
}
