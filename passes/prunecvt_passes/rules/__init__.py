"""The rule table: how labels flow through each operator.

Adding an operator is one name in a family's tuple; a new behaviour is one function in the family's
file and one row here (operators of other domains as ``domain:operator``). What is not listed pins
what it touches, and the report says so.
"""

from __future__ import annotations

from prunecvt_passes.flow import Rule
from prunecvt_passes.rules.attention import (
    attention,
    group_query_attention,
    multi_head_attention,
    packed_attention,
)
from prunecvt_passes.rules.contraction import conv, conv_transpose, gemm, matmul
from prunecvt_passes.rules.deformable import deform_conv
from prunecvt_passes.rules.einsum import einsum, fused_matmul
from prunecvt_passes.rules.elementwise import batch_normalization, elementwise, quantize
from prunecvt_passes.rules.fused import embed_normalization, fused_conv, skip_normalization
from prunecvt_passes.rules.indexing import (
    by_element,
    center_crop_pad,
    col2im,
    compress,
    grid_sample,
    matrices,
    one_hot,
    reverse_sequence,
    scatter_nd,
    tensor_scatter,
)
from prunecvt_passes.rules.layout import flatten, reshape, squeeze
from prunecvt_passes.rules.movement import (
    concat,
    depth_to_space,
    gather,
    gather_nd,
    pad,
    slice_,
    space_to_depth,
    split,
    transpose,
)
from prunecvt_passes.rules.normalisation import (
    group_normalization,
    instance_normalization,
    local_response,
    lp_normalization,
    normalization,
)
from prunecvt_passes.rules.quantized import QUANTIZED
from prunecvt_passes.rules.recurrent import recurrent
from prunecvt_passes.rules.reduction import along_axis, max_unpool, pool, reduce
from prunecvt_passes.rules.resizing import constant_of_shape, expand, resize, tile, upsample
from prunecvt_passes.rules.rotary import rotary_embedding

_ELEMENTWISE = (
    "Abs Acos Acosh Add And Asin Asinh Atan Atanh BitCast BitShift BitwiseAnd BitwiseNot BitwiseOr "
    "BitwiseXor Cast CastLike Ceil Celu Clip Cos Cosh Div Dropout Elu Equal Erf Exp Floor Gelu "
    "Greater GreaterOrEqual HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Less LessOrEqual "
    "Log Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow Reciprocal Relu Round Selu Shrink Sigmoid "
    "Sign Sin Sinh Softplus Softsign Sqrt Sub Sum SwiGLU Swish Tan Tanh ThresholdedRelu Where Xor"
)
_ACROSS = "LayerNormalization LogSoftmax MeanVarianceNormalization RMSNormalization Softmax"
_POOLS = (
    "AveragePool GlobalAveragePool GlobalLpPool GlobalMaxPool LpPool MaxPool MaxRoiPool RoiAlign"
)
_REDUCTIONS = (
    "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd "
    "ReduceSum ReduceSumSquare"
)
_RECURRENT = "GRU LSTM RNN"
_ALONG_AXIS = "ArgMax ArgMin CumProd CumSum Hardmax TopK"
_FUSED_ELEMENTWISE = "BiasGelu FastGelu GatedAdd Gelu QuickGelu ScaledSiLU"
_MICROSOFT: dict[str, Rule] = {
    **dict.fromkeys(_FUSED_ELEMENTWISE.split(), elementwise),
    "Attention": packed_attention,
    "EmbedLayerNormalization": embed_normalization,
    "FusedConv": fused_conv,
    "FusedGemm": gemm,
    "FusedMatMul": fused_matmul,
    "GroupQueryAttention": group_query_attention,
    "MultiHeadAttention": multi_head_attention,
    "RotaryEmbedding": rotary_embedding,
    "SkipLayerNormalization": skip_normalization,
    "SkipSimplifiedLayerNormalization": skip_normalization,
}

RULES: dict[str, Rule] = {
    **dict.fromkeys(_ELEMENTWISE.split(), elementwise),
    **dict.fromkeys(_ACROSS.split(), normalization),
    **dict.fromkeys(_POOLS.split(), pool),
    **dict.fromkeys(_REDUCTIONS.split(), reduce),
    **dict.fromkeys(_ALONG_AXIS.split(), along_axis),
    **dict.fromkeys(_RECURRENT.split(), recurrent),
    **QUANTIZED,
    "Attention": attention,
    "BatchNormalization": batch_normalization,
    "CenterCropPad": center_crop_pad,
    "Col2Im": col2im,
    "Compress": compress,
    "Concat": concat,
    "ConstantOfShape": constant_of_shape,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "DeformConv": deform_conv,
    "DepthToSpace": depth_to_space,
    "DequantizeLinear": quantize,
    "Einsum": einsum,
    "Det": matrices,
    "Expand": expand,
    "Flatten": flatten,
    "Gather": gather,
    "GatherElements": by_element,
    "GatherND": gather_nd,
    "Gemm": gemm,
    "GroupNormalization": group_normalization,
    "InstanceNormalization": instance_normalization,
    "LRN": local_response,
    "LpNormalization": lp_normalization,
    "GridSample": grid_sample,
    "MatMul": matmul,
    "MaxUnpool": max_unpool,
    "OneHot": one_hot,
    "Pad": pad,
    "QuantizeLinear": quantize,
    "Reshape": reshape,
    "Resize": resize,
    "RotaryEmbedding": rotary_embedding,
    "SimplifiedLayerNormalization": skip_normalization,
    "ReverseSequence": reverse_sequence,
    "Scatter": by_element,
    "ScatterElements": by_element,
    "ScatterND": scatter_nd,
    "Slice": slice_,
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Squeeze": squeeze,
    "TensorScatter": tensor_scatter,
    "Tile": tile,
    "Transpose": transpose,
    "Trilu": matrices,
    "Unsqueeze": squeeze,
    "Upsample": upsample,
    **{f"com.microsoft:{name}": rule for name, rule in _MICROSOFT.items()},
}

__all__ = ["RULES"]
