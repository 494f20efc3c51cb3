"""What happens to the graph: labels, groups, scores, allocation, slicing, recovery."""

import os

# onnxruntime reports its use to a web service from its import on, unless this is set before
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
