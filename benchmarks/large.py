"""Time and memory of ``prunecvt slim`` on a model larger than one ONNX file may be.

    python benchmarks/large.py [--blocks 9] [--everything] [--trace] [--ratio 0.4] [--folder /disk]

The model is a residual MLP of random weights, 268 MB a block, written block by block with its
weights beside it. The command line runs as a user runs it; the memory of it and of all its child
processes is sampled (Linux). Pages mapped from files (``of files``) count as resident, although the
system may drop them at any time.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

WIDTH, INNER = 4096, 8192
_PERIOD = 0.02  # seconds between two looks at the memory
Sample = tuple[float, float, float]


def build(path: Path, blocks: int) -> int:
    """Writes the model and the file of its weights; returns the bytes of both."""
    rng = np.random.default_rng(0)
    weights, nodes, x = [], [], "x"
    data = path.with_name("weights.bin")
    with open(data, "wb") as file:
        for block in range(blocks):
            names = [f"{kind}{block}" for kind in ("up", "shift", "down", "back")]
            shapes = ((INNER, WIDTH), (INNER,), (WIDTH, INNER), (WIDTH,))
            for name, shape in zip(names, shapes, strict=True):
                values = rng.standard_normal(shape, np.float32)
                values /= np.float32(np.sqrt(shape[-1]))
                tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
                tensor.data_location = TensorProto.EXTERNAL
                facts = {"location": data.name, "offset": file.tell(), "length": values.nbytes}
                for key, value in facts.items():
                    tensor.external_data.add(key=key, value=str(value))
                weights.append(tensor)
                file.write(values.data)
            up, shift, down, back = names
            nodes += [
                helper.make_node("Gemm", [x, up, shift], [f"a{block}"], transB=1),
                helper.make_node("Relu", [f"a{block}"], [f"b{block}"]),
                helper.make_node("Gemm", [f"b{block}", down, back], [f"c{block}"], transB=1),
                helper.make_node("Add", [x, f"c{block}"], [f"x{block}"]),
            ]
            x = f"x{block}"
    graph = helper.make_graph(
        nodes,
        "large",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", WIDTH])],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, ["N", WIDTH])],
        weights,
    )
    opsets = [helper.make_opsetid("", 17)]
    path.write_bytes(
        helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
    )
    return path.stat().st_size + data.stat().st_size


def tree(pid: int) -> Iterator[int]:
    """Yields a process and all below it."""
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # gone
        return
    for child in children:
        yield from tree(int(child))


def memory(pid: int) -> tuple[float, float]:
    """Resident MB of a process and all below it, and how much of that is mapped from files."""
    total = mapped = 0
    for each in tree(pid):
        try:
            status = Path(f"/proc/{each}/status").read_text()
        except OSError:  # gone
            continue
        fields = dict(line.split(":", 1) for line in status.splitlines())
        total += int(fields.get("VmRSS", "0 kB").split()[0])
        mapped += int(fields.get("RssFile", "0 kB").split()[0])
    return total * 1024 / 1e6, mapped * 1024 / 1e6


def watched(command: list[str]) -> tuple[int, list[Sample], str]:
    """Runs a command; returns its exit code, (seconds, MB, MB of files) samples, and its output."""
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
        samples: list[Sample] = []
        while process.poll() is None:
            samples.append((time.perf_counter() - started, *memory(process.pid)))
            time.sleep(_PERIOD)
        said.seek(0)
        return process.returncode, samples, said.read()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=9, help="268 MB each")
    parser.add_argument("--ratio", default="0.4")
    parser.add_argument("--everything", action="store_true", help="IR and latency too")
    parser.add_argument("--trace", action="store_true", help="print the memory as it went")
    parser.add_argument("--limit", type=float, default=2.5, help="times the model's size")
    parser.add_argument("--folder", help="where the files go for the time of the run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        model, out = Path(name) / "large.onnx", Path(name) / "slim" / "large.onnx"
        size = build(model, options.blocks) / 1e6
        command = [sys.executable, "-c", "from prunecvt.cli import main; main()"]
        command += ["slim", str(model), "-o", str(out), "--ratio", options.ratio]
        command += ["--verbose"] if options.trace else []
        command += [] if options.everything else ["--no-ir", "--no-bench"]
        code, samples, said = watched(command)
        written = sum(file.stat().st_size for file in out.parent.glob("*")) / 1e6
    seconds, peak, mapped = max(samples, key=lambda sample: sample[1])
    own = max(total - files for _, total, files in samples)
    if options.trace or code:
        print(said)
        for sample in samples[:: max(len(samples) // 60, 1)] if options.trace else ():
            print("  {:7.2f} s {:8.0f} MB, {:.0f} of files".format(*sample))
    print(f"model {size:.0f} MB, written {written:.0f} MB, exit {code}, {samples[-1][0]:.1f} s")
    print(f"peak {peak:.0f} MB = {peak / size:.2f} x the model, {mapped:.0f} MB of it of files,")
    print(f"  at {seconds:.1f} s; without files {own:.0f} MB = {own / size:.2f} x")
    sys.exit(code or peak > options.limit * size)


if __name__ == "__main__":
    main()
