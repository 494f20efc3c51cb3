"""Reports built in code: a rich one, and the corner cases that a reader meets."""

from __future__ import annotations

import random
from typing import Any

from prunecvt.report.schema import (
    Accuracy,
    Change,
    Environment,
    Fidelity,
    Gate,
    GroupRow,
    InputFile,
    LatencyRow,
    Layout,
    LayoutCheck,
    OracleCheck,
    OutputFile,
    Outputs,
    ParityCheck,
    PassRow,
    Port,
    Report,
    Run,
    ScoreRange,
    SkippedRow,
    Timing,
    Tool,
    TopK,
    Totals,
    Verify,
)

NASTY = "<script>alert(\"x\")</script>&'y'|[red]`z`"
SHA = "3f79bb7b435b05321651daefd374cdc681dc06faa65e374e38337b88ca046dea"
BLOCKED = Layout(nchwc_convs=57, plain_convs=0, reorders=2)
ROUNDING = "saving {} of {} channels is less than one step of 8"


def timing(median: float, spread: float = 0.02, runs: int = 60, seed: int = 0) -> Timing:
    """A latency distribution with a tail to the right, the same for the same arguments."""
    source = random.Random(seed)
    noise = (
        abs(source.gauss(0, spread)) + abs(source.gauss(0, spread)) ** 1.5 for _ in range(runs)
    )
    samples = sorted(median * (1 - spread / 2 + value) for value in noise)
    middle = samples[runs // 2]
    return Timing(
        median_ms=middle,
        p10=samples[runs // 10],
        p90=samples[runs * 9 // 10],
        p99=samples[runs * 99 // 100],
        min_ms=samples[0],
        cpu_median_ms=0.985 * middle,
        n=runs,
        load_ms=41.3,
        first_ms=2.4 * middle,
        samples_ms=random.Random(seed + 1).sample(samples, runs),
    )


def latency(**changes: Any) -> LatencyRow:
    """onnxruntime, one thread, clearly faster; ``changes`` replace fields."""
    fields: dict[str, Any] = {
        "backend": "onnxruntime",
        "threads": 1,
        "shape": {"input": [1, 3, 224, 224]},
        "before": timing(16.52, seed=3),
        "after": timing(9.48, seed=4),
        "ratio": 0.574,
        "ratio_ci95": (0.551, 0.598),
        "judged_by": "cpu",
        "macs_ratio": 0.49,
        "contended": False,
        "significant": True,
    }
    return LatencyRow(**{**fields, **changes})


def contended() -> LatencyRow:
    """OpenVINO on four threads of a busy machine: nothing can be said."""
    return latency(
        backend="openvino",
        threads=4,
        before=timing(7.31, spread=0.5, seed=5),
        after=timing(6.64, spread=0.7, seed=6),
        ratio=0.908,
        ratio_ci95=(0.731, 1.162),
        judged_by="wall",
        contended=True,
        significant=False,
    )


def group(number: int, source: random.Random, name: str = "") -> GroupRow:
    """A group of a stage; every seventh stays whole because of rounding."""
    before = 16 * 2 ** min(number // 12, 5) * source.choice((1, 1, 2))
    whole = number % 7 == 3
    after = before if whole else max(8, 8 * round(before * source.uniform(0.3, 0.9) / 8))
    stem = name or f"/backbone/layer{number // 6 + 1}/layer{number // 6 + 1}.{number % 6}"
    members = [f"{stem}/conv{k + 1}/Conv_output_0" for k in range(1 + number % 5)]
    reason = ROUNDING.format(source.randint(1, 7), before) if after == before else ""
    return GroupRow(
        id=number,
        members=members,
        channels_before=before,
        channels_after=after,
        kept=sorted(source.sample(range(before), after)),
        score=ScoreRange(min=0.0021 * (number + 1), median=0.35, max=2.81),
        reason=reason,
    )


def groups(number: int, name: str = "") -> list[GroupRow]:
    """Groups in network order."""
    source = random.Random(1)
    return [group(index, source, name) for index in range(number)]


def pinned(number: int, name: str = "") -> list[SkippedRow]:
    """Producers that cannot be cut, for a handful of reasons."""
    reasons = [
        ("Gemm", "graph-output", "its channels are an output of the model"),
        ("MatMul", "operator", "LayerNormalization 'norm_{}' normalises over its channels"),
        ("Conv", "operator", "operator 'GridSample' has no channel rule"),
        ("MatMul", "subgraph", "its channels are captured by the subgraph of Loop 'loop_{}'"),
        ("Conv", "keep", "kept by --keep '*head*'"),
    ]
    rows = []
    for index in range(number):
        op, code, reason = reasons[(index * 3 + index // 4) % 5]
        node = f"{name or '/head/block'}_{index}/{op}"
        width = 64 * (1 + index % 3)
        rows.append(
            SkippedRow(
                node=node,
                op=op,
                tensor=f"{node}_output_0",
                channels=width // (1 + index % 2),
                width=width,
                code=code,
                reason=reason.format(index),
            )
        )
    return rows


def verified(**changes: Any) -> Verify:
    """Every check passed; drift on calibration data."""
    fields: dict[str, Any] = {
        "checker": True,
        "ort": True,
        "io_contract": True,
        "masked_dense": OracleCheck(
            max_abs=2.1e-6, max_rel=8.4e-7, tolerance=1e-4, samples=4, passed=True
        ),
        "fidelity": Fidelity(
            data="calibration",
            samples=256,
            cosine=0.99713,
            sqnr_db=22.41,
            max_rel=0.1312,
            top1_agree=0.9727,
        ),
        "openvino": ParityCheck(max_abs=3e-6, max_rel=1.2e-6, tolerance=1e-3, passed=True),
    }
    return Verify(**{**fields, **changes})


def accuracy() -> Accuracy:
    """A classifier of ten classes that lost a point or two."""
    top1 = TopK(
        before=0.9339,
        after=0.9171,
        before_ci95=(0.9289, 0.9386),
        after_ci95=(0.9115, 0.9223),
        change_ci95=(-0.0203, -0.0134),
    )
    return Accuracy(
        data="test.npz",
        samples=10000,
        classes=10,
        preprocessing="resize 256, crop 224x224, divide by 255, mean 0.485,0.456,0.406, rgb, NCHW",
        top1=top1,
        top5=top1,
    )


def environment() -> Environment:
    """A desktop machine."""
    return Environment(
        os="Linux 6.1",
        cpu="AMD EPYC 7B13",
        isa=["avx2", "fma"],
        cores=4,
        threads=1,
        python="3.11.7",
        versions={"onnx": "1.21.0", "onnxruntime": "1.31.1", "openvino": "2026.4.1"},
    )


def source_file() -> InputFile:
    """A small classifier with a dynamic batch."""
    return InputFile(
        path="models/resnet56.onnx",
        sha256=SHA,
        bytes=3451234,
        opset=17,
        ir=8,
        ios=[
            Port(name="input", kind="input", dtype="float32", shape=["N", 3, 32, 32]),
            Port(name="logits", kind="output", dtype="float32", shape=["N", 10]),
        ],
    )


def report(**changes: Any) -> Report:
    """A successful run on a middling network; ``changes`` replace fields."""
    passes = [("trace", 0.112), ("score", 1.93), ("choose", 0.021), ("slice", 0.204)]
    fields: dict[str, Any] = {
        "status": "ok",
        "tool": Tool(version="0.1.0"),
        "run": Run(
            argv=["prunecvt", "slim", "resnet56.onnx", "--ratio", "0.4", "--calib", "images.npz"],
            started="2026-01-05T09:30:00Z",
            seconds=48.2,
            peak_rss_mb=612.4,
        ),
        "env": environment(),
        "input": source_file(),
        "output": Outputs(
            onnx=OutputFile(path="models/resnet56_slim.onnx", sha256=SHA[::-1], bytes=1711234),
            ir=OutputFile(path="models/resnet56_slim.xml", sha256=SHA, bytes=1731234),
        ),
        "settings": {"ratio": 0.4, "scope": "global", "round_to": 8, "keep": ["*head*"], "seed": 0},
        "criterion": "second-order",
        "groups": groups(27),
        "skipped": pinned(14),
        "passes": [
            *(PassRow(name=name, seconds=s, changed=name == "slice") for name, s in passes),
            PassRow(name="recover", seconds=31.8, changed=True),
        ],
        "totals": Totals(
            params=Change(before=853018, after=421344),
            macs=Change(before=126.8e6, after=62.1e6),
            bytes=Change(before=3451234, after=1711234),
            channels=Change(before=2032, after=1402),
        ),
        "verify": verified(),
        "accuracy": accuracy(),
        "latency": [latency(), latency(backend="openvino", ratio=0.61, ratio_ci95=(0.59, 0.63))],
        "layout": LayoutCheck(before=BLOCKED, after=BLOCKED, fell_off=[]),
        "gates": [Gate(expr="latency_ratio>0.9", value=0.574, passed=True)],
    }
    return Report(**{**fields, **changes})


def large() -> Report:
    """Two hundred groups and three hundred pinned producers with long, hostile names."""
    name = f"/model/{NASTY}/" + "encoder.layers.attention." * 4
    return report(
        groups=groups(200, name),
        skipped=pinned(300, name),
        latency=[
            latency(before=timing(16.5, runs=2000), after=timing(9.5, runs=2000)),
            contended(),
        ],
        warnings=[f"node '{NASTY}' has no type; taken as float32"] * 20,
        settings={"keep": [name] * 50, "ratio": 0.4},
    )


def troubled() -> Report:
    """A busy machine, no recovery, random input, convolutions off the fast path, a missed gate."""
    slower = latency(ratio=1.083, ratio_ci95=(1.041, 1.122), before=timing(9.1), after=timing(9.9))
    return report(
        passes=[PassRow(name="slice", seconds=0.2, changed=True)],
        latency=[slower, contended()],
        layout=LayoutCheck(
            before=Layout(nchwc_convs=52, plain_convs=0, reorders=2),
            after=Layout(nchwc_convs=11, plain_convs=41, reorders=29),
            fell_off=[f"/features.{k}/conv/Conv_output_0" for k in range(41)],
        ),
        verify=verified(
            fidelity=Fidelity(data="random", samples=8, cosine=0.91, sqnr_db=None, max_rel=1.7),
            openvino=ParityCheck(max_abs=0.4, max_rel=0.2, tolerance=1e-3, passed=False),
            skipped=["masked-dense equality"],
            masked_dense=None,
        ),
        gates=[Gate(expr="latency_ratio>0.9", value=1.083, passed=False)],
        warnings=["--round-to 1: widths were not rounded to the runtime's block"],
    )


def unpruned() -> Report:
    """Nothing to prune, nothing measured, nothing verified."""
    unchanged = Change(before=1000, after=1000)
    return report(
        status="nothing-to-prune",
        groups=[],
        skipped=pinned(3),
        passes=[],
        totals=Totals(params=unchanged, macs=unchanged, bytes=unchanged, channels=unchanged),
        verify=None,
        accuracy=None,
        latency=[],
        layout=None,
        gates=[],
        output=Outputs(),
    )
