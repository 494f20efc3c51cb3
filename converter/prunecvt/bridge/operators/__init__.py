"""The operator table: how each ONNX operator is computed with torch.

Adding an operator is a function in its family's file and a row here (operators of other domains as
``domain:operator``). What is not listed is refused by name when a module is made.
"""

from __future__ import annotations

from prunecvt.bridge.operators.convolution import conv, conv_transpose
from prunecvt.bridge.operators.elementwise import (
    ELEMENTWISE,
    bias_gelu,
    fast_gelu,
    gelu,
    quick_gelu,
)
from prunecvt.bridge.operators.indexing import (
    constant_of_shape,
    eye_like,
    gather,
    gather_elements,
    gather_nd,
    grid_sample,
    max_unpool,
    non_zero,
    one_hot,
    range_,
    scatter_elements,
    scatter_nd,
    shape,
    size,
    top_k,
)
from prunecvt.bridge.operators.movement import (
    concat,
    depth_to_space,
    expand,
    flatten,
    pad,
    reshape,
    slice_,
    space_to_depth,
    split,
    squeeze,
    tile,
    transpose,
    trilu,
    unsqueeze,
)
from prunecvt.bridge.operators.normalisation import (
    batch_normalization,
    group_normalization,
    hardmax,
    instance_normalization,
    layer_normalization,
    local_response,
    log_softmax,
    lp_normalization,
    mean_variance,
    rms_normalization,
    skip_layer_normalization,
    softmax,
)
from prunecvt.bridge.operators.pooling import (
    average_pool,
    global_average_pool,
    global_lp_pool,
    global_max_pool,
    lp_pool,
    max_pool,
)
from prunecvt.bridge.operators.products import einsum, gemm, matmul
from prunecvt.bridge.operators.recurrent import recurrent
from prunecvt.bridge.operators.reduction import REDUCTIONS
from prunecvt.bridge.operators.resizing import resize
from prunecvt.bridge.operators.step import Operator
from prunecvt.errors import UnsupportedError
from prunecvt_passes.graph import Node

OPERATORS: dict[str, Operator] = {
    **ELEMENTWISE,
    **REDUCTIONS,
    "AveragePool": average_pool,
    "BatchNormalization": batch_normalization,
    "Concat": concat,
    "ConstantOfShape": constant_of_shape,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "DepthToSpace": depth_to_space,
    "Einsum": einsum,
    "Expand": expand,
    "EyeLike": eye_like,
    "Flatten": flatten,
    "GRU": recurrent("GRU"),
    "Gather": gather,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "Gemm": gemm,
    "GlobalAveragePool": global_average_pool,
    "GlobalLpPool": global_lp_pool,
    "GlobalMaxPool": global_max_pool,
    "GridSample": grid_sample,
    "GroupNormalization": group_normalization,
    "Hardmax": hardmax,
    "InstanceNormalization": instance_normalization,
    "LRN": local_response,
    "LSTM": recurrent("LSTM"),
    "LayerNormalization": layer_normalization,
    "LogSoftmax": log_softmax,
    "LpNormalization": lp_normalization,
    "LpPool": lp_pool,
    "MatMul": matmul,
    "MaxPool": max_pool,
    "MaxUnpool": max_unpool,
    "MeanVarianceNormalization": mean_variance,
    "NonZero": non_zero,
    "OneHot": one_hot,
    "Pad": pad,
    "RMSNormalization": rms_normalization,
    "RNN": recurrent("RNN"),
    "Range": range_,
    "Reshape": reshape,
    "Resize": resize,
    "Scatter": scatter_elements,
    "ScatterElements": scatter_elements,
    "ScatterND": scatter_nd,
    "Shape": shape,
    "SimplifiedLayerNormalization": rms_normalization,
    "Size": size,
    "Slice": slice_,
    "Softmax": softmax,
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Squeeze": squeeze,
    "Tile": tile,
    "TopK": top_k,
    "Transpose": transpose,
    "Trilu": trilu,
    "Unsqueeze": unsqueeze,
    "Upsample": resize,
    "com.microsoft:BiasGelu": bias_gelu,
    "com.microsoft:FastGelu": fast_gelu,
    "com.microsoft:Gelu": gelu,
    "com.microsoft:QuickGelu": quick_gelu,
    "com.microsoft:SkipLayerNormalization": skip_layer_normalization,
}


def operator_of(node: Node, source: str) -> Operator:
    """The function that computes ``node``.

    Raises:
        UnsupportedError: E440, there is none.
    """
    found = OPERATORS.get(node.kind)
    if found is None:
        raise UnsupportedError(
            "E440",
            f"{node.title} has no counterpart in torch",
            where=f"{source}: {node.title}, domain '{node.domain or 'ai.onnx'}'",
            node=node.name or next(filter(None, node.outputs), ""),
            help="train a model without that operator",
        )
    return found


__all__ = ["OPERATORS", "operator_of"]
