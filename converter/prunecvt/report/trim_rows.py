"""The part of the report that says what ``trim`` did, and its lines of text."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from prunecvt.percent import percent
from prunecvt.report.record import Record


class BranchRow(Record):
    """A branch that always makes the same (``zero``: nothing), and the node that read it."""

    tensor: str
    reader: str
    zero: bool


class KernelRow(Record):
    """A kernel with borders of zeros; ``reason`` says why not all of them went."""

    tensor: str
    before: list[int]
    after: list[int]
    reason: str = ""


class StayedRow(Record):
    """Channels that hold a constant and stay, and why."""

    tensor: str
    channels: int
    reason: str


class BlockRow(Record):
    """A residual block: the outputs' error if it alone goes, on held-out data, and what it costs.

    Errors are squared, over the variance of the outputs; ``together`` is that with all that went
    before it, None where the block stays. ``cost`` is in ``unit``, for one sample.
    """

    tensor: str
    error: float
    top1_agree: float | None
    together: float | None = None
    cost: float
    unit: Literal["MACs", "ms"]
    dropped: bool


class MaskRow(Record):
    """Weights that were masked, and what that is worth: bytes after zlib, before and after.

    ``nonzero`` are those that are left of ``weights``.
    """

    sparsity: float
    scope: Literal["layer", "global"]
    weights: int
    nonzero: int
    compressed_before: int
    compressed_after: int


class TrimRow(Record):
    """What went. ``silenced`` counts structures below ``tolerance`` that were set to zero,
    ``constants`` channels that held another constant than zero where they were
    read, ``inexact`` those of them that are off at padded borders, ``carried`` those that another
    constant channel stands for."""

    tolerance: float
    silenced: int = 0
    constants: int
    inexact: int
    carried: int
    branches: list[BranchRow] = Field(default_factory=list)
    kernels: list[KernelRow] = Field(default_factory=list)
    stayed: list[StayedRow] = Field(default_factory=list)
    blocks: list[BlockRow] = Field(default_factory=list)
    mask: MaskRow | None = None


NO_SPEED = (
    "a mask makes no dense kernel faster: onnxruntime and OpenVINO multiply by its zeros like by "
    "any other number; it makes the file compress better, and lets channels that it empties go"
)


MOST = 6  # lines of one kind


def trim_lines(row: TrimRow | None) -> list[str]:
    """What went and what did not, one line each; of many alike the first few. None: no lines."""
    if row is None:
        return []
    lines = _few([_block_line(each) for each in row.blocks if each.dropped], "blocks")
    if row.blocks:
        gone = sum(each.dropped for each in row.blocks)
        lines.append(f"blocks: {gone} of {len(row.blocks)} went")
    if row.silenced:
        lines.append(
            f"filters, input channels, kernel borders and factors set to zero, for none of them "
            f"holds more than {row.tolerance:g}: {row.silenced}"
        )
    lines += _few(
        [
            f"branch {each.tensor} {'is zero' if each.zero else 'is constant'}: "
            f"computed no more for {each.reader}"
            for each in row.branches
        ],
        "branches",
    )
    lines += _few([_kernel_line(each) for each in row.kernels], "kernels")
    if row.constants:
        text = f"channels that were constants, now in biases: {row.constants - row.carried}"
        text += f"; in another constant channel: {row.carried}" if row.carried else ""
        lines.append(f"{text}; inexact at borders: {row.inexact}" if row.inexact else text)
    for reason in dict.fromkeys(each.reason for each in row.stayed):
        alike = [each for each in row.stayed if each.reason == reason]
        number, first = sum(each.channels for each in alike), alike[0].tensor
        where = first if len(alike) == 1 else f"{len(alike)} layers, the first {first}"
        lines.append(f"channels that are constants and stay: {number} in {where}: each {reason}")
    return lines + ([] if row.mask is None else _mask_lines(row.mask))


def _few(lines: list[str], noun: str) -> list[str]:
    more = len(lines) - MOST
    return [*lines[:MOST], f"and {more} more {noun}"] if more > 1 else lines


def _block_line(row: BlockRow) -> str:
    agree = "" if row.top1_agree is None else f", agreement {percent(row.top1_agree)}"
    cost = f"{row.cost:.3g} ms" if row.unit == "ms" else f"{row.cost / 1e6:.3g} M MACs"
    text = f"block {row.tensor} went: alone an error of {row.error:.2e}{agree}"
    if row.together is not None and row.together != row.error:
        text += f", with those before it {row.together:.2e}"
    return f"{text}; {cost}"


def _kernel_line(row: KernelRow) -> str:
    before, after = ("x".join(map(str, sizes)) for sizes in (row.before, row.after))
    text = f"kernel of {row.tensor}: {before} -> {after}"
    return f"{text}; {row.reason}" if row.reason else text


def _mask_lines(row: MaskRow) -> list[str]:
    share = 1 - row.nonzero / max(row.weights, 1)
    sizes = f"{row.compressed_before:,} -> {row.compressed_after:,}"
    return [
        f"mask: {percent(share)} of the weights are zero; compressed {sizes} bytes",
        f"mask: {NO_SPEED}",
    ]
