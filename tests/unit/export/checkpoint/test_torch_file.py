"""Files of torch.save: those that PyTorch has written are read, and what is anything else is refused, and never run."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.checkpoint.torch_file import TorchWeights
from export.errors import ExportError
from tests.support.checkpoints.m3 import COLBERT, FILES, SPARSE


def members(name: str) -> dict[str, bytes]:
    with zipfile.ZipFile(FILES / name) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def write(path: Path, content: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> TorchWeights:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return TorchWeights(path)


def changed(before: bytes, after: bytes, member: str = "data.pkl") -> dict[str, bytes]:
    """The file of the sparse layer, one of whose members says something else."""
    found = members("sparse_linear.pt")
    (name,) = (name for name in found if name.endswith(f"/{member}"))
    assert found[name].count(before) >= 1
    return {**found, name: found[name].replace(before, after)}


@pytest.mark.parametrize(("name", "expected"), [("colbert_linear.pt", COLBERT), ("sparse_linear.pt", SPARSE)])
def test_what_pytorch_has_written_is_read(name: str, expected: dict[str, np.ndarray]) -> None:
    weights = TorchWeights(FILES / name)
    assert weights.shape("weight", 2) == expected["weight"].shape and not weights.skipped()
    for key, value in expected.items():
        found = weights.take(key, value.shape)
        assert weights.has(key) and found.dtype == np.float32
        np.testing.assert_array_equal(found, value)
    assert not weights.has("scale")


def test_what_a_network_does_not_ask_for_is_named() -> None:
    weights = TorchWeights(FILES / "sparse_linear.pt")
    with pytest.raises(ExportError, match=r"sparse_linear.pt: weight 'weight' has shape \[1, 24\], and \[1, 8\] is"):
        weights.take("weight", (1, 8))
    with pytest.raises(ExportError, match="sparse_linear.pt: weight 'scale' is missing"):
        weights.take("scale", (1,))
    with pytest.raises(ExportError, match="weight 'bias' of 2 axes is missing"):
        weights.shape("bias", 2)


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    found = members("sparse_linear.pt")
    (name,) = (name for name in found if len(found[name]) == 4 * 24)
    weights = write(tmp_path / "nan.pt", {**found, name: np.full(24, np.nan, np.float32).tobytes()})
    with pytest.raises(ExportError, match="nan.pt: weight 'weight' has 24 of 24 values that are not finite"):
        weights.take("weight", (1, 24))


class Malicious:
    """An object whose pickle calls something."""

    def __init__(self, called: Callable[..., object], *arguments: object) -> None:
        self.called = called, arguments

    def __reduce__(self) -> Any:
        return self.called


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_no_code_of_a_pickle_is_run(tmp_path: Path, protocol: int) -> None:
    trap = tmp_path / "was run"
    for value in (Malicious(os.mkdir, str(trap)), {"weight": Malicious(os.mkdir, str(trap))}):
        with pytest.raises(ExportError, match="evil.pt: not tensors by name as torch.save"):
            write(tmp_path / "evil.pt", {"evil/data.pkl": pickle.dumps(value, protocol)})
        plain = tmp_path / "plain.pt"
        plain.write_bytes(pickle.dumps(value, protocol))
        with pytest.raises(ExportError, match="plain.pt: not tensors by name"):
            TorchWeights(plain)
    assert not trap.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (changed(b"FloatStorage", b"LongStorage"), "numbers of torch.LongStorage; torch.FloatStorage, "),
        (changed(b"_rebuild_tensor_v2", b"_rebuild_qtensor"), "it calls torch._utils._rebuild_qtensor, which makes no"),
        (
            changed(b"ccollections\nOrderedDict\n", b"cos\nsystem\n"),
            r"it calls os.system, which makes no tensor and was",
        ),
        (changed(b"little", b"big", "byteorder"), "its numbers are big-endian"),
        (changed(b"storage", b"weather"), "it refers to something outside"),
        ({"a/data.pkl": pickle.dumps([1.5], 2)}, "it has the instruction EMPTY_LIST, which no tensor needs"),
        ({"a/data.pkl": pickle.dumps({"weight": 3}, 2)}, "it holds something else"),
        ({"a/data.pkl": pickle.dumps(3, 2)}, "it holds something else"),
        ({"a/data.pkl": pickle.dumps({"a": 3}, 2)[:-1]}, "pickle exhausted|it ends too soon"),
        ({"a/data.pkl": b""}, "pickle exhausted|it ends too soon"),
        ({"a/data.pkl": b"\x80\x02R."}, "pop from empty list"),
        ({"a/data.pkl": b"\x80\x02h\x07."}, "7"),
        ({"a/other": b""}, "it has no data.pkl"),
        ({"a/data.pkl": b"", "b/data.pkl": b""}, "it has no data.pkl"),
    ],
    ids=range(14),
)
def test_what_is_no_mapping_of_tensors_is_refused_by_what_it_has(
    tmp_path: Path, content: dict[str, bytes], message: str
) -> None:
    with pytest.raises(ExportError, match=rf"layer.pt: not tensors by name as torch.save .*\(.*({message})"):
        write(tmp_path / "layer.pt", content)


def test_numbers_that_are_missing_are_an_error(tmp_path: Path) -> None:
    found = members("sparse_linear.pt")
    (name,) = (name for name in found if len(found[name]) == 4 * 24)
    with pytest.raises(ExportError, match="There is no item named"):
        write(tmp_path / "absent.pt", {key: value for key, value in found.items() if key != name})
    with pytest.raises(ExportError, match="'weight' is larger than its numbers"):
        write(tmp_path / "short.pt", {**found, name: found[name][:-4]})


def test_what_is_compressed_is_refused_however_large_it_would_be(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="is compressed"):
        write(tmp_path / "bomb.pt", members("sparse_linear.pt"), zipfile.ZIP_DEFLATED)


def test_a_damaged_or_absent_file_is_named(tmp_path: Path) -> None:
    whole = (FILES / "sparse_linear.pt").read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 5):
        (tmp_path / "cut.pt").write_bytes(whole[:size])
        with pytest.raises(ExportError, match="cut.pt: "):
            TorchWeights(tmp_path / "cut.pt")
    with pytest.raises(ExportError, match="there is no absent.pt"):
        TorchWeights(tmp_path / "absent.pt")
    (tmp_path / "pointer.pt").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ExportError, match="pointer.pt: .*LFS"):
        TorchWeights(tmp_path / "pointer.pt")


def test_a_byte_that_is_another_is_an_error_or_another_number(tmp_path: Path) -> None:
    """Each of the archive; and each of the pickle in it, where it becomes one of several instructions."""
    whole, path = (FILES / "sparse_linear.pt").read_bytes(), tmp_path / "damaged.pt"
    found = members("sparse_linear.pt")
    (name,) = (name for name in found if name.endswith("/data.pkl"))
    pickled = found[name]
    cases = [whole[:place] + b"\xff" + whole[place + 1 :] for place in range(len(whole))]
    inner = [
        pickled[:place] + value + pickled[place + 1 :]
        for value in map(bytes, zip(b".equ\x85"))
        for place in range(len(pickled))
    ]
    refused = 0
    for damaged in (*cases, *inner):
        try:
            if len(damaged) == len(whole):
                path.write_bytes(damaged)
                TorchWeights(path)
            else:
                write(path, {**found, name: damaged})
        except ExportError as error:
            assert "damaged.pt" in str(error)
            refused += 1
    assert refused > 1000


def test_views_of_other_numbers_are_refused(tmp_path: Path) -> None:
    """As of a transposed weight: its strides are not those of numbers one behind the other."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w"):
        pass
    strides = pickle.dumps((24, 1), 2)[2:-3]  # without protocol, memo and stop
    with pytest.raises(ExportError, match="do not stand one behind the other"):
        write(tmp_path / "view.pt", changed(strides, pickle.dumps((1, 24), 2)[2:-3]))
