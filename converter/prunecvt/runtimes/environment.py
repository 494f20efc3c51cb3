"""Describes the machine and the versions that a latency belongs to."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path

from prunecvt.report.schema import Environment

_PACKAGES = ("numpy", "onnx", "onnxruntime", "openvino", "prunecvt")
_CPUINFO = Path("/proc/cpuinfo")
# the sets of instructions that decide how fast a convolution is, by their names in /proc/cpuinfo
_ISA = (
    "sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512vl",
    "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_int8",
    "neon", "asimddp", "bf16", "i8mm", "sve", "sve2",
)  # fmt: skip
_ALIASES = {"asimd": "neon", "fma3": "fma", "asimdbf16": "bf16", "asimdmm": "i8mm"}  # numpy's


def describe(threads: int = 1) -> Environment:
    """Returns the machine as it is now; imports no runtime.

    Args:
        threads: how many the measurements used.
    """
    return Environment(
        os=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpu=_cpu(),
        isa=_isa(),
        cores=_cores(),
        threads=threads,
        python=platform.python_version(),
        versions={name: version for name in _PACKAGES if (version := _version(name))},
    )


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _cores() -> int:
    """Cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpuinfo() -> dict[str, str]:
    """First processor of /proc/cpuinfo; {} elsewhere than on Linux."""
    try:
        text = _CPUINFO.read_text("utf-8", "replace").split("\n\n", 1)[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _cpu() -> str:
    if sys.platform == "darwin":
        return _sysctl("machdep.cpu.brand_string") or platform.machine()
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def _sysctl(key: str) -> str:
    command = ["/usr/sbin/sysctl", "-n", key]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _isa() -> list[str]:
    info = _cpuinfo()
    flags = set((info.get("flags") or info.get("Features") or "").lower().split())
    flags |= {name.lower() for name in _numpy_features()}
    flags |= {ours for theirs, ours in _ALIASES.items() if theirs in flags}
    return [name for name in _ISA if name in flags]


def _numpy_features() -> list[str]:
    """What numpy found, for systems without /proc; it has no public name for it."""
    try:
        core = importlib.import_module("numpy._core._multiarray_umath")
        return [name for name, present in core.__cpu_features__.items() if present]
    except (ImportError, AttributeError):
        return []
