"""Output files appear all together or not at all, whatever fails."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest

import prunecvt.writing.write as write
from conv_models import stack
from prunecvt.errors import OutputError, VerifyError
from prunecvt.writing.serialize import onnx_parts, serialize_onnx
from prunecvt.writing.staging import PREFIX
from prunecvt.writing.write import Part, check_targets, from_bytes, from_file, write_set
from prunecvt_passes.model import Model

NAMES = ["m.bin", "m.xml", "m.onnx"]


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def parts(folder: Path, mark: str = "new") -> list[Part]:
    return [from_bytes(folder / name, f"{mark} {name}".encode()) for name in NAMES]


def whole(mark: str) -> dict[str, bytes]:
    return {name: f"{mark} {name}".encode() for name in sorted(NAMES)}


class Fault:
    """Makes the n-th guarded call fail, once."""

    def __init__(self, at: int, failure: BaseException) -> None:
        self.left = at
        self.failure = failure

    def guard(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                raise self.failure
            return call(*args, **kwargs)

        return guarded

    def install(self, patch: pytest.MonkeyPatch) -> None:
        for module, name in (
            (os, "replace"), (os, "link"), (os, "fsync"), (os, "mkdir"), (os, "open"),
            (tempfile, "mkdtemp"), (shutil, "copy2"),
        ):  # fmt: skip
            patch.setattr(module, name, self.guard(getattr(module, name)))

        def opened(*args: Any, **kwargs: Any) -> Any:
            file = open(*args, **kwargs)  # noqa: SIM115 - closed by the guarded file
            return GuardedFile(file, self)

        patch.setattr(write, "open", self.guard(opened), raising=False)


class GuardedFile:
    def __init__(self, file: Any, fault: Fault) -> None:
        self.file = file
        self.write = fault.guard(file.write)
        self.flush = fault.guard(file.flush)
        self.fileno = file.fileno

    def __enter__(self) -> GuardedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


def first_unfailing(folder: Path, failure: BaseException, *, old: bool) -> int:
    """Fails call after call; returns the first number that was past the last call."""
    for at in range(1, 200):
        target = folder / str(at)
        if old:
            write_set(parts(target, "old"))
        before = contents(target)
        fault = Fault(at, failure)
        with pytest.MonkeyPatch.context() as patch:
            fault.install(patch)
            try:
                write_set(parts(target), force=True)
                failed: type[BaseException] | None = None
            except (OutputError, KeyboardInterrupt) as error:
                failed = type(error)
        after = contents(target)
        if failed is OutputError:
            assert after == before, at
            assert target.exists() == old
        elif failed is KeyboardInterrupt:
            assert after in (before, whole("new")), at
        else:
            assert after == whole("new"), at
        if fault.left > 0:
            return at
    raise AssertionError("the writer never ran through")


@pytest.mark.parametrize("old", [False, True], ids=["fresh", "overwrite"])
@pytest.mark.parametrize(
    "failure",
    [OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EIO, "I/O error"),
     KeyboardInterrupt()],
    ids=["disk-full", "broken-disk", "interrupt"],
)  # fmt: skip
def test_a_failure_of_any_call_leaves_all_old_or_all_new(
    tmp_path: Path, failure: BaseException, old: bool
) -> None:
    assert first_unfailing(tmp_path, failure, old=old) > 15


@pytest.mark.parametrize("error", [PermissionError(errno.EPERM, "no"), NotImplementedError()])
@pytest.mark.parametrize("fails", [True, False])
def test_where_nothing_can_be_linked_old_files_are_copied(
    error: Exception, fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every link fails, as on a FAT drive; the last file cannot be renamed into place."""
    write_set(parts(tmp_path, "old"))
    replace = os.replace

    def unlinked(*_: Any, **__: Any) -> None:
        raise error

    def unrenamed(source: Any, target: Any) -> None:
        if fails and Path(target) == tmp_path / NAMES[-1] and "old" not in Path(source).parts:
            raise OSError(errno.EIO, "broken")
        replace(source, target)

    monkeypatch.setattr(os, "link", unlinked)
    monkeypatch.setattr(os, "replace", unrenamed)
    if fails:
        with pytest.raises(OutputError):
            write_set(parts(tmp_path), force=True)
    else:
        write_set(parts(tmp_path), force=True)
    assert contents(tmp_path) == whole("old" if fails else "new")


def test_a_set_is_written_and_nothing_else(tmp_path: Path) -> None:
    write_set(parts(tmp_path))
    assert contents(tmp_path) == whole("new")
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == []


def test_missing_folders_are_made_and_removed_again_on_failure(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    with pytest.raises(ZeroDivisionError):
        write_set([Part(folder / "m", lambda _: 1 // 0)])
    assert not (tmp_path / "a").exists()
    write_set(parts(folder))
    assert contents(folder) == whole("new")


def test_verification_sees_the_files_as_they_will_be_named(tmp_path: Path) -> None:
    seen: dict[str, bytes] = {}

    def verify(staged: Mapping[Path, Path]) -> None:
        assert not (tmp_path / "m.onnx").exists()
        assert len({path.parent for path in staged.values()}) == 1
        seen.update({path.name: path.read_bytes() for path in staged.values()})

    write_set(parts(tmp_path), verify=verify)
    assert seen == whole("new")


def test_a_failed_verification_leaves_the_old_files(tmp_path: Path) -> None:
    write_set(parts(tmp_path, "old"))

    def verify(_: Mapping[Path, Path]) -> None:
        raise VerifyError("E501", "different")

    with pytest.raises(VerifyError):
        write_set(parts(tmp_path), force=True, verify=verify)
    assert contents(tmp_path) == whole("old")


def test_an_existing_output_is_kept_without_force(tmp_path: Path) -> None:
    (tmp_path / "m.xml").write_text("precious")
    with pytest.raises(OutputError) as caught:
        write_set(parts(tmp_path))
    assert caught.value.code == "E701"
    assert "--force" in caught.value.help
    assert contents(tmp_path) == {"m.xml": b"precious"}


def test_an_output_made_while_the_run_went_on_is_kept(tmp_path: Path) -> None:
    def meanwhile(_: Mapping[Path, Path]) -> None:
        (tmp_path / "m.onnx").write_text("precious")

    with pytest.raises(OutputError) as caught:
        write_set(parts(tmp_path), verify=meanwhile)
    assert caught.value.code == "E701"
    assert contents(tmp_path) == {"m.onnx": b"precious"}


def test_the_input_is_not_overwritten_under_another_spelling(tmp_path: Path) -> None:
    source = tmp_path / "m.onnx"
    source.write_text("input")
    (tmp_path / "link.onnx").symlink_to(source)
    for spelling in (source, tmp_path / "x" / ".." / "m.onnx", tmp_path / "link.onnx"):
        (tmp_path / "x").mkdir(exist_ok=True)
        with pytest.raises(OutputError) as caught:
            check_targets([spelling], inputs=[source])
        assert caught.value.code == "E702"
    check_targets([source], inputs=[source], force=True)


def test_one_name_for_two_outputs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught:
        check_targets([tmp_path / "m", tmp_path / "." / "m"])
    assert caught.value.code == "E702"


@pytest.mark.parametrize("force", [False, True])
def test_only_regular_files_are_replaced(tmp_path: Path, force: bool) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    for name in ("folder", "fifo", "nowhere"):
        with pytest.raises(OutputError) as caught:
            check_targets([tmp_path / name], force=force)
        assert caught.value.code == "E705"


def test_a_file_in_place_of_a_folder_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError) as caught:
        write_set(parts(tmp_path / "file" / "deeper"))
    assert caught.value.code == "E705"


@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.ENOSPC, "E703"), (errno.EROFS, "E704"), (errno.EACCES, "E704"), (errno.EIO, "E706")],
)
def test_what_the_system_says_is_passed_on(tmp_path: Path, number: int, code: str) -> None:
    def fail(_: object) -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(OutputError) as caught:
        write_set([Part(tmp_path / "m.onnx", fail)])
    assert caught.value.code == code
    assert os.strerror(number) in caught.value.message
    assert len(str(caught.value).splitlines()) == 3


KILLED = """
import os, signal, sys
from pathlib import Path
from prunecvt.writing.write import from_bytes, write_set
write_set([from_bytes(Path(sys.argv[1]) / "m", b"x")],
          verify=lambda _: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_the_next_run_clears_what_a_killed_one_left(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    assert list(tmp_path.glob(f"{PREFIX}*"))
    write_set(parts(tmp_path))
    assert contents(tmp_path) == whole("new")


def test_a_run_leaves_the_staging_of_another_running_one_alone(tmp_path: Path) -> None:
    def other_run(staged: Mapping[Path, Path]) -> None:
        write_set([from_bytes(tmp_path / "other", b"other")])
        assert all(path.exists() for path in staged.values())

    write_set(parts(tmp_path), verify=other_run)
    assert contents(tmp_path) == {**whole("new"), "other": b"other"}


def test_a_part_can_be_copied_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"abc" * 1000)
    write_set([from_file(tmp_path / "copy", tmp_path / "source")])
    assert (tmp_path / "copy").read_bytes() == b"abc" * 1000


def test_a_model_is_serialized_to_the_same_bytes_and_back() -> None:
    proto = stack(16).model("r2")
    model = Model.from_proto(proto)
    assert serialize_onnx(model) == serialize_onnx(model.copy())
    assert onnx.load_model_from_string(serialize_onnx(model)) == proto


def test_a_model_past_the_limit_gets_a_sidecar_that_reads_back(tmp_path: Path) -> None:
    model = Model.from_proto(stack(24).model("r2"))
    path = tmp_path / "m.onnx"
    found = onnx_parts(model, path, limit=1000)
    assert [part.path.name for part in found] == ["m.onnx.data", "m.onnx"]
    write_set(found, verify=lambda staged: onnx.checker.check_model(str(staged[path])))
    onnx.checker.check_model(str(path), full_check=True)
    again = Model.from_proto(onnx.load(str(path)))
    assert again.weights.keys() == model.weights.keys()
    for name, values in model.weights.items():
        np.testing.assert_array_equal(again.weights[name], values)


def test_a_small_model_is_one_file(tmp_path: Path) -> None:
    model = Model.from_proto(stack(16).model("r2"))
    write_set(onnx_parts(model, tmp_path / "m.onnx"))
    assert list(contents(tmp_path)) == ["m.onnx"]
    assert (tmp_path / "m.onnx").read_bytes() == serialize_onnx(model)


def test_a_message_written_piece_by_piece_is_the_message(tmp_path: Path) -> None:
    proto = stack(24).model("r2")
    proto.metadata_props.add(key="a", value="b")
    proto.graph.doc_string = "a graph"
    proto.graph.initializer[0].doc_string = "a weight"
    large = np.arange(4096)
    model = Model.from_proto(proto)
    model.set_weights(
        {
            "bits": large % 2 == 0,
            "four_bits": (large % 8).astype(ml_dtypes.int4),
            "brain": large.astype(ml_dtypes.bfloat16),
            "turned": large.reshape(64, 64).T,
            "texts": np.array([b"a", b"longer"], dtype=object),
            "none": np.zeros((0, 3), np.float32),
        }
    )
    write_set(onnx_parts(model, tmp_path / "m.onnx"))
    assert (tmp_path / "m.onnx").read_bytes() == serialize_onnx(model)


def test_a_file_is_written_without_holding_it(tmp_path: Path) -> None:
    model = Model.from_proto(stack(8).model("r2"))
    model.set_weights({f"large{k}": np.ones(1 << 20, np.float32) for k in range(4)})
    tracemalloc.start()
    try:
        write_set(onnx_parts(model, tmp_path / "m.onnx"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < model.nbytes / 8
