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
from prunecvt_passes.rules.einsum import einsum, fused_matmul
from prunecvt_passes.rules.elementwise import batch_normalization, elementwise, quantize
from prunecvt_passes.rules.fused import embed_normalization, fused_conv, skip_normalization
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
from prunecvt_passes.rules.quantized import QUANTIZED
from prunecvt_passes.rules.reduction import along_axis, pool, reduce
from prunecvt_passes.rules.resizing import expand, resize, tile, upsample
from prunecvt_passes.rules.rotary import rotary_embedding

_ELEMENTWISE = (
    "Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr "
    "BitwiseXor Cast CastLike Ceil Celu Clip Cos Cosh Div Dropout Elu Equal Erf Exp Floor Gelu "
    "Greater GreaterOrEqual HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Less LessOrEqual "
    "Log Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow Reciprocal Relu Round Selu Shrink Sigmoid "
    "Sign Sin Sinh Softplus Softsign Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Where Xor"
)
_PER_CHANNEL = "BatchNormalization InstanceNormalization"
_POOLS = (
    "AveragePool GlobalAveragePool GlobalLpPool GlobalMaxPool LpPool MaxPool MaxRoiPool RoiAlign"
)
_REDUCTIONS = (
    "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd "
    "ReduceSum ReduceSumSquare"
)
_ALONG_AXIS = (
    "ArgMax ArgMin CumSum Hardmax LayerNormalization LogSoftmax LpNormalization "
    "MeanVarianceNormalization RMSNormalization Softmax TopK"
)
_FUSED_ELEMENTWISE = ("BiasGelu", "FastGelu", "GatedAdd", "Gelu", "QuickGelu", "ScaledSiLU")
_MICROSOFT: dict[str, Rule] = {
    **dict.fromkeys(
        ["BiasGelu", "FastGelu", "GatedAdd", "Gelu", "QuickGelu", "ScaledSiLU"], elementwise
    ),
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
    **dict.fromkeys(_PER_CHANNEL.split(), batch_normalization),
    **dict.fromkeys(_POOLS.split(), pool),
    **dict.fromkeys(_REDUCTIONS.split(), reduce),
    **dict.fromkeys(_ALONG_AXIS.split(), along_axis),
    **QUANTIZED,
    "Attention": attention,
    "Concat": concat,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "DepthToSpace": depth_to_space,
    "DequantizeLinear": quantize,
    "Einsum": einsum,
    "Expand": expand,
    "Flatten": flatten,
    "Gather": gather,
    "GatherND": gather_nd,
    "Gemm": gemm,
    "MatMul": matmul,
    "Pad": pad,
    "QuantizeLinear": quantize,
    "Reshape": reshape,
    "Resize": resize,
    "RotaryEmbedding": rotary_embedding,
    "SimplifiedLayerNormalization": skip_normalization,
    "Slice": slice_,
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Squeeze": squeeze,
    "Tile": tile,
    "Transpose": transpose,
    "Unsqueeze": squeeze,
    "Upsample": upsample,
    **{f"com.microsoft:{name}": rule for name, rule in _MICROSOFT.items()},
}

__all__ = ["RULES"]
