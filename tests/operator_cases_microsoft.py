"""Operators of onnxruntime's own: no node tests come with them, so each has cases here."""

from __future__ import annotations

import numpy as np

from operator_cases_own import BYTES, IMAGE, RNG, STEP, ZERO, Row, floats, positive, signed
from prunecvt_passes.model import Array

NONE = floats(0)  # an optional input that is left out
TOKENS, OTHER = floats(2, 5, 8), floats(2, 5, 8)
MATRIX = floats(3, 8)
BY_HEAD, HEADS = floats(2, 4, 5, 6), {"num_heads": 4}
TO = (STEP, ZERO)
BIASES = RNG.integers(-99, 99, 10).astype(np.int32)
COARSE = (np.array(0.5, np.float32), ZERO)
SEQUENCE = np.array([4, 4], np.int32)  # lengths less one
STATES: tuple[str, ...] = ("y", "key", "value")
SUMS = ("y", "", "", "sum")


def unsigned(*shape: int) -> Array:
    return RNG.integers(100, 150, shape).astype(np.uint8)


def grouped(own: int, *more: Array, width: int = 8) -> list[Array]:
    """Inputs of GroupQueryAttention with 4 heads on ``own``: a prompt of 5 tokens, no past."""
    made = [floats(2, 5, 4 * width), floats(2, 5, own * width), floats(2, 5, own * width)]
    return [*made, NONE, NONE, SEQUENCE, np.array(5, np.int32), *more]


def bits(size: int, flat: bool, *more: Array) -> list[Array]:
    """Inputs of MatMulNBits: 10 rows of 2 blocks of 16."""
    packed = RNG.integers(0, 256, (10, 2, 2 * size)).astype(np.uint8)
    return [floats(3, 32), packed, positive(20) if flat else positive(10, 2), *more]


PLACES = RNG.integers(0, 9, (2, 5))
TABLES = [floats(9, 4), floats(9, 4)]
IDS = RNG.integers(0, 9, (2, 5)).astype(np.int32)
LOOKUPS = [floats(9, 8), floats(5, 8), floats(9, 8), floats(8), floats(8)]
MASK = np.array([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0]], np.int32)
SMALL, SMALL_WEIGHT = unsigned(3, 8), unsigned(8, 10)
POINTS = RNG.integers(0, 256, (10, 1)).astype(np.uint8)

_ROWS: list[Row] = [
    Row("Attention", [TOKENS, floats(8, 72), floats(72)], HEADS),
    Row("Attention", [TOKENS, floats(8, 72), floats(72), MASK], HEADS),
    Row("Attention", [TOKENS, floats(8, 72), floats(72)], HEADS | {"unidirectional": 1}),
    Row(
        "Attention",
        [TOKENS, floats(8, 88), floats(88)],
        HEADS | {"qkv_hidden_sizes": [24, 24, 40]},
    ),
    Row(
        "Attention",
        [TOKENS, floats(8, 72), floats(72), NONE, floats(2, 2, 4, 3, 6)],
        HEADS,
        ("y", "present"),
    ),
    Row("BiasGelu", [TOKENS, floats(8)]),
    Row("DequantizeLinear", [BYTES, *TO]),
    Row("DequantizeLinear", [BYTES, positive(4), unsigned(4)], {"axis": 1}),
    Row("DequantizeLinear", [signed(3, 4), positive(4), signed(4)], {"axis": 1}),
    Row("DynamicQuantizeMatMul", [MATRIX, signed(8, 10), positive(10), signed(10), floats(10)]),
    Row("DynamicQuantizeMatMul", [TOKENS, unsigned(8, 10), *TO]),
    Row("EmbedLayerNormalization", [IDS, IDS % 3, *LOOKUPS], {}, ("y", "mask", "sum")),
    Row("EmbedLayerNormalization", [IDS, NONE, *LOOKUPS[:2], NONE, *LOOKUPS[3:]], {}, ("y", "")),
    Row("EmbedLayerNormalization", [IDS, IDS % 3, *LOOKUPS, MASK], {}, ("y", "mask")),
    Row("FastGelu", [IMAGE]),
    Row("FastGelu", [TOKENS, floats(8)]),
    Row("FusedConv", [IMAGE, floats(6, 4, 3, 3), floats(6)], {"activation": "Relu"}),
    Row(
        "FusedConv",
        [IMAGE, floats(8, 1, 3, 3), floats(8), floats(2, 8, 4, 4)],
        {"activation": "LeakyRelu", "activation_params": [0.2], "group": 4},
    ),
    Row(
        "FusedConv",
        [IMAGE, floats(8, 2, 1, 1), NONE, floats(2, 8, 6, 6)],
        {"activation": "HardSigmoid", "activation_params": [0.3, 0.6], "group": 2},
    ),
    Row("FusedGemm", [MATRIX, floats(8, 10), floats(10)], {"activation": "Relu"}),
    Row(
        "FusedGemm",
        [floats(8, 3), floats(10, 8), floats(3, 10)],
        {"activation": "LeakyRelu", "activation_alpha": 0.2, "transA": 1, "transB": 1},
    ),
    Row("FusedMatMul", [MATRIX, floats(8, 10)], {"alpha": 0.5}),
    Row("FusedMatMul", [floats(2, 8, 5), floats(2, 10, 8)], {"transA": 1, "transB": 1}),
    Row("FusedMatMul", [floats(5, 2, 8), floats(2, 8, 10)], {"transBatchA": 1}),
    Row("FusedMatMul", [floats(2, 5, 8), floats(8, 2, 10)], {"transBatchB": 1}),
    Row("GatedAdd", [TOKENS, OTHER, floats(2, 5, 1)]),
    Row("Gelu", [IMAGE]),
    Row("GroupQueryAttention", grouped(2), HEADS | {"kv_num_heads": 2}, STATES),
    Row("GroupQueryAttention", grouped(1), HEADS | {"kv_num_heads": 1}, STATES),
    Row("GroupQueryAttention", grouped(4), HEADS | {"kv_num_heads": 4, "softcap": 3.0}, STATES),
    Row(
        "GroupQueryAttention",
        grouped(2, floats(9, 8), floats(9, 8), width=16),
        HEADS | {"kv_num_heads": 2, "do_rotary": 1},
        STATES,
    ),
    Row("MatMulIntegerToFloat", [SMALL, SMALL_WEIGHT, STEP, STEP, ZERO, ZERO, floats(10)]),
    Row("MatMulIntegerToFloat", [SMALL, signed(8, 10), STEP, positive(10), ZERO, signed(10)]),
    Row("MatMulIntegerToFloat", [unsigned(2, 5, 8), signed(8, 10), STEP, positive(10)]),
    Row("MatMulNBits", bits(4, False), {"K": 32, "N": 10, "bits": 4, "block_size": 16}),
    Row("MatMulNBits", bits(4, True, POINTS), {"K": 32, "N": 10, "bits": 4, "block_size": 16}),
    Row(
        "MatMulNBits",
        bits(8, False, NONE, NONE, floats(10)),
        {"K": 32, "N": 10, "bits": 8, "block_size": 16},
    ),
    Row("MultiHeadAttention", [floats(2, 5, 24), floats(2, 3, 24), floats(2, 3, 40)], HEADS),
    Row(
        "MultiHeadAttention",
        [floats(2, 5, 24), floats(2, 5, 24), floats(2, 5, 24), floats(72), MASK],
        HEADS | {"scale": 0.3},
    ),
    Row("MultiHeadAttention", [floats(2, 5, 24), BY_HEAD, floats(2, 4, 5, 6)], HEADS),
    Row(
        "MultiHeadAttention",
        [
            *(floats(2, 5, 24) for _ in range(3)),
            *(NONE, NONE, floats(1, 4, 5, 8)),
            *(floats(2, 4, 3, 6) for _ in range(2)),
        ],
        HEADS,
        STATES,
    ),
    Row("QGemm", [SMALL, *TO, SMALL_WEIGHT, *TO, BIASES, *COARSE]),
    Row("QGemm", [SMALL, *TO, signed(10, 8), positive(10), signed(10)], {"transB": 1}),
    Row("QLinearAdd", [BYTES, *TO, unsigned(2, 4, 6, 6), *TO, *TO]),
    Row("QLinearAdd", [BYTES, *TO, unsigned(4, 1, 1), *TO, *TO]),
    Row("QLinearAveragePool", [BYTES, *TO, *TO], {"kernel_shape": [2, 2]}),
    Row("QLinearAveragePool", [BYTES, *TO, *TO], {"kernel_shape": [2, 2], "channels_last": 1}),
    Row("QLinearConcat", [*TO, BYTES, *TO, unsigned(2, 3, 6, 6), *TO], {"axis": 1}),
    Row("QLinearGlobalAveragePool", [BYTES, *TO, *TO]),
    Row("QLinearGlobalAveragePool", [BYTES, *TO, *TO], {"channels_last": 1}),
    Row("QLinearLeakyRelu", [BYTES, *TO, *TO], {"alpha": 0.2}),
    Row("QLinearMul", [BYTES, *TO, unsigned(2, 4, 6, 6), *TO, *TO]),
    Row("QLinearMul", [BYTES, *TO, unsigned(4, 1, 1), *TO, *TO]),
    Row("QLinearSigmoid", [BYTES, *TO, *TO]),
    Row("QLinearSoftmax", [BYTES, *TO, positive(), np.array(0, np.uint8)], {"opset": 13}),
    Row(
        "QLinearSoftmax",
        [BYTES, *TO, positive(), np.array(0, np.uint8)],
        {"opset": 12, "axis": 2},
    ),
    Row("QLinearWhere", [BYTES > 120, BYTES, *TO, unsigned(2, 4, 6, 6), *TO, *TO]),
    Row("QuantizeLinear", [IMAGE, *TO]),
    Row("QuantizeLinear", [IMAGE, positive(4), unsigned(4)], {"axis": 1}),
    Row("QuantizeLinear", [IMAGE, np.array(1e-3, np.float32), np.array(32768, np.uint16)]),
    Row("QuickGelu", [IMAGE], {"alpha": 1.5}),
    Row("RotaryEmbedding", [floats(2, 5, 32), PLACES, *TABLES]),
    Row("RotaryEmbedding", [floats(2, 5, 32), PLACES, *TABLES], {"interleaved": 1}),
    Row("RotaryEmbedding", [floats(2, 4, 5, 8), np.array([0]), *TABLES]),
    Row(
        "RotaryEmbedding",
        [floats(2, 5, 64), PLACES, *TABLES],
        {"rotary_embedding_dim": 8, "num_heads": 4},
    ),
    Row("ScaledSiLU", [IMAGE], {"alpha": 1.5}),
    Row("SkipLayerNormalization", [TOKENS, OTHER, floats(8), floats(8), floats(8)], {}, SUMS),
    Row("SkipLayerNormalization", [TOKENS, floats(5, 8), floats(8)]),
    Row("SkipSimplifiedLayerNormalization", [TOKENS, OTHER, floats(8), floats(8)], {}, SUMS),
    Row("SkipSimplifiedLayerNormalization", [TOKENS, OTHER, floats(8)]),
]
ROWS = [
    *(row._replace(op=f"com.microsoft:{row.op}") for row in _ROWS),
    Row("SimplifiedLayerNormalization", [TOKENS, floats(8)]),  # of the default domain, all the same
    Row("SimplifiedLayerNormalization", [TOKENS, floats(5, 8)], {"axis": 1}),
]
