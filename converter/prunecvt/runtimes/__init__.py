"""onnxruntime and OpenVINO: timing, layout, conversion."""
