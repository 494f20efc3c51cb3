"""Every bad file gives a typed error that names the file; none hangs or fills the memory."""

from __future__ import annotations

import os
import random
import tracemalloc
from pathlib import Path

import pytest

from bad_case import Case, conv_model, external, nodes_model, relu
from bad_files import CASES
from prunecvt import errors
from prunecvt.loading.load import load

CLASSES = {3: errors.InputError, 4: errors.UnsupportedError, 8: errors.ResourceError}


def refusal(path: Path) -> errors.PrunecvtError:
    with pytest.raises(errors.PrunecvtError) as caught:
        load(path)
    return caught.value


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_file_is_refused(case: Case, tmp_path: Path) -> None:
    path = case.make(tmp_path)
    error = refusal(path)
    text = str(error)
    assert type(error) is CLASSES[case.exit_code]
    assert error.exit_code == case.exit_code
    assert error.code == case.code, text
    assert path.name in error.where
    assert error.node == case.node
    assert case.node in error.where
    for mention in case.mentions:
        assert mention in text
    lines = text.split("\n")
    assert 2 <= len(lines) <= 3
    assert lines[0].startswith(f"error[{case.code}]: ")
    assert all(line.isprintable() for line in lines)


def test_case_names_are_unique() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


def test_every_code_is_documented() -> None:
    table = (Path(__file__).parents[1] / "docs" / "errors.md").read_text(encoding="utf-8")
    for code in {case.code for case in CASES}:
        assert f"| {code} |" in table


@pytest.mark.parametrize("name", ["absurd_dims", "sparse_absurd_dims", "external_absurd_offset"])
def test_stated_sizes_are_not_believed(name: str, tmp_path: Path) -> None:
    path = next(case for case in CASES if case.name == name).make(tmp_path)
    refusal(path)
    tracemalloc.start()
    try:
        refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("limit", [100, 1700])
def test_max_memory_is_kept(limit: int, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(conv_model().SerializeToString())
    with pytest.raises(errors.ResourceError) as caught:
        load(path, max_memory=limit)
    assert caught.value.code == "E801"
    assert "--max-memory" in caught.value.help


def test_max_memory_counts_external_data_before_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(external(conv_model(), "missing.bin").SerializeToString())
    with pytest.raises(errors.ResourceError):
        load(path, max_memory=1000)


def test_names_from_the_file_cannot_forge_lines() -> None:
    model = nodes_model(relu("a\nerror[E000]: forged\x1b[31m" + "b" * 5000, "y", "n\nhelp: forged"))
    with pytest.raises(errors.InputError) as caught:
        load(model)
    lines = str(caught.value).split("\n")
    assert len(lines) == 3
    assert all(line.isprintable() and len(line) < 400 for line in lines)


def test_model_in_memory_cannot_refer_to_files() -> None:
    with pytest.raises(errors.InputError) as caught:
        load(external(conv_model(), "w.bin"))
    assert caught.value.code == "E306"


def test_other_objects_are_a_type_error() -> None:
    with pytest.raises(TypeError, match="int"):
        load(42)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(4))
def test_mutated_files_give_typed_errors_only(seed: int) -> None:
    chance = random.Random(seed)
    valid = conv_model(kernel_shape=[3, 3], group=1).SerializeToString()
    for _ in range(150):
        data = bytearray(valid)
        for _ in range(chance.choice((1, 2, 4))):
            place = chance.randrange(len(data))
            if chance.random() < 0.7:
                data[place] = chance.randrange(256)
            else:
                del data[place : place + chance.randrange(1, 9)]
        try:
            load(bytes(data))
        except errors.PrunecvtError as error:
            assert error.exit_code in CLASSES


def test_running_out_of_memory_is_a_typed_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("prunecvt.loading.load.split", fail)
    with pytest.raises(errors.ResourceError):
        load(conv_model())


def test_a_data_file_exchanged_while_it_is_opened_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(1728))
    (tmp_path / "other.bin").write_bytes(bytes(1728))
    path = tmp_path / "model.onnx"
    path.write_bytes(external(conv_model(), "w.bin").SerializeToString())
    really_open = os.open

    def exchanged(name: str, flags: int) -> int:
        return really_open(name.replace("w.bin", "other.bin"), flags)

    monkeypatch.setattr("prunecvt.loading.regular_file.os.open", exchanged)
    assert refusal(path).code == "E307"
