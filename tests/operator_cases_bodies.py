"""If, Loop and Scan whose bodies make channels and read them, between the weights a and b."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import parser

from operator_cases_own import floats
from prunecvt_passes.model import Array

HEAD = '<ir_version: 10, opset_import: ["" : 22]> net '
HELD = "a = Constant <value = float[4,6] {{{}}}> () b = Constant <value = float[6,4] {{{}}}> ()"
PAIR = "p = MatMul (x, a) q = Relu (p) z = MatMul (q, b)"
TEXTS = {
    "If": """(bool c, float[2,4] x {more}) => (float[2,4] y) {{
        y = If (c) <
            then_branch = first () => (float[2,4] z) {{ {pair} }},
            else_branch = other () => (float[2,4] o) {{ o = Neg (x) }}
        >
    }}""",
    "Loop": """(int64 n, bool c, float[2,4] s {more}) => (float[2,4] y) {{
        y = Loop (n, c, s) <
            body = turn (int64 i, bool go, float[2,4] x) => (bool on, float[2,4] z)
                {{ on = Identity (go) {pair} }}
        >
    }}""",
    "Scan": """(float[2,4] s, float[3,2,4] each {more}) => (float[2,4] y, float[3,2,4] all) {{
        y, all = Scan (s, each) <
            num_scan_inputs = 1,
            body = turn (float[2,4] state, float[2,4] x) => (float[2,4] next, float[2,4] z)
                {{ {pair} next = Add (state, z) }}
        >
    }}""",
}


def models() -> dict[str, tuple[onnx.ModelProto, dict[str, Array]]]:
    """Name -> a model of one node that has a body, and its inputs: a and b are around it or not."""
    scalars = {"c": np.array(True), "n": np.array(3)}
    held = HELD.format(*(", ".join(map(str, floats(24))) for _ in range(2)))
    found = {}
    for op, text in TEXTS.items():
        around = text.format(pair=PAIR, more=", float[4,6] a, float[6,4] b")
        within = text.format(pair=f"{held} {PAIR}", more="")
        for k, written in enumerate((around, within)):
            model = parser.parse_model(HEAD + written)
            feeds = {
                value.name: scalars[value.name]
                if value.name in scalars
                else floats(*(d.dim_value for d in value.type.tensor_type.shape.dim))
                for value in model.graph.input
            }
            found[f"own_{op}_{k}"] = (model, feeds)
    return found
