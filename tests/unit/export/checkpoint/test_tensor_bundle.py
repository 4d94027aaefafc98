"""What is read was written by TensorFlow 1.15 (tests/data) or, where the form matters, by bundles.py."""

import shutil
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from export.checkpoint.tensor_bundle import TensorBundle
from export.errors import ExportError
from tests.support.checkpoints.bundles import BIG, write_bundle
from tests.support.places import DATA

COUNT = np.arange(12).reshape(3, 4) / 8  # as tests/data/tensor_bundle/write.py has it
MANY = {f"layer_{i // 7}/part_{i % 7}": np.full((i % 5, 3), i, np.float32) for i in range(500)}


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """A copy of TensorFlow's checkpoint of two shards."""
    shutil.copytree(DATA / "tensor_bundle", tmp_path / "bundle")
    return tmp_path / "bundle" / "model.ckpt"


def change(path: Path, edit: Callable[[bytearray], None]) -> None:
    content = bytearray(path.read_bytes())
    edit(content)
    path.write_bytes(content)


def shard(prefix: Path, number: int) -> Path:
    return Path(f"{prefix}.data-{number:05}-of-00002")


def index(prefix: Path) -> Path:
    return Path(f"{prefix}.index")


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("first/float32", np.float32),
        ("first/float64", np.float64),
        ("second/float16", np.float16),
        ("second/bfloat16", ml_dtypes.bfloat16),
    ],
)
def test_every_floating_point_type_is_read_from_either_shard(prefix: Path, name: str, dtype: type) -> None:
    array = TensorBundle(prefix).read(name)
    assert array.dtype == dtype
    np.testing.assert_array_equal(array.astype(np.float64), COUNT)


def test_a_scalar_and_a_tensor_of_nothing_are_read(prefix: Path) -> None:
    bundle = TensorBundle(prefix)
    assert bundle.read("first/scalar") == np.float32(0.5)
    assert bundle.read("second/nothing").shape == (0, 4)


def test_tensors_are_views_of_the_file(prefix: Path) -> None:
    array = TensorBundle(prefix).read("first/float32")
    assert not array.flags.owndata
    assert not array.flags.writeable


def test_every_name_is_there_and_no_slice(prefix: Path) -> None:
    first = [f"first/{name}" for name in ("float32", "float64", "scalar", "steps")]
    second = [f"second/{name}" for name in ("bfloat16", "float16", "nothing", "parted", "words")]
    assert list(TensorBundle(prefix).entries) == first + second


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("second/parted", "tensor 'second/parted' is stored in slices"),
        ("first/steps", "tensor 'first/steps' is of DataType 9, but float32, float64, bfloat16, float16 can be read"),
        ("second/words", "tensor 'second/words' is of DataType 7"),
    ],
)
def test_other_tensors_are_refused_where_they_are_asked_for(prefix: Path, name: str, message: str) -> None:
    with pytest.raises(ExportError, match=rf"model\.ckpt\.index: {message}"):
        TensorBundle(prefix).read(name)


def test_an_absent_tensor_is_a_key_error(prefix: Path) -> None:
    with pytest.raises(KeyError):
        TensorBundle(prefix).read("third")


@pytest.mark.parametrize("block_bytes", [1, 300, 10**6])
@pytest.mark.parametrize("shards", [1, 3])
def test_an_index_of_many_blocks_is_read_whole(tmp_path: Path, shards: int, block_bytes: int) -> None:
    write_bundle(tmp_path / "many", MANY, shards=shards, block_bytes=block_bytes)
    bundle = TensorBundle(tmp_path / "many")
    assert list(bundle.entries) == sorted(MANY)
    for name, expected in MANY.items():
        np.testing.assert_array_equal(bundle.read(name), expected, strict=True)


def test_a_flipped_byte_in_the_index_is_refused_wherever_it_matters(prefix: Path) -> None:
    whole = index(prefix).read_bytes()
    entries = TensorBundle(prefix).entries
    unread = 0
    for at in range(len(whole)):
        flipped = bytearray(whole)
        flipped[at] ^= 0x10
        index(prefix).write_bytes(flipped)
        try:
            assert TensorBundle(prefix).entries == entries
            unread += 1
        except ExportError as error:
            assert str(error).startswith(f"{index(prefix)}: "), error
    # The metaindex block, which is empty, where the footer says it is, and the padding behind that.
    assert unread < 60


def test_an_index_cut_anywhere_is_refused(prefix: Path) -> None:
    whole = index(prefix).read_bytes()
    for length in range(len(whole)):
        index(prefix).write_bytes(whole[:length])
        with pytest.raises(ExportError, match=r"model\.ckpt\.index: does not end as the index of a TensorFlow"):
            TensorBundle(prefix)


def test_an_index_that_lacks_its_beginning_is_refused(prefix: Path) -> None:
    change(index(prefix), lambda content: content.__delitem__(slice(0, 10)))
    with pytest.raises(ExportError, match=r"model\.ckpt\.index: is damaged in its block at byte"):
        TensorBundle(prefix)


def test_a_wrong_magic_number_is_refused(prefix: Path) -> None:
    change(index(prefix), lambda content: content.__setitem__(-1, 0))
    with pytest.raises(ExportError, match=r"model\.ckpt\.index: does not end as the index of a TensorFlow checkpoint"):
        TensorBundle(prefix)


def test_a_flipped_byte_in_the_data_names_the_tensor_and_its_file(prefix: Path) -> None:
    change(shard(prefix, 1), lambda content: content.__setitem__(30, content[30] ^ 1))
    bundle = TensorBundle(prefix)
    bundle.read("second/bfloat16")
    with pytest.raises(ExportError, match=r"data-00001-of-00002: the bytes of tensor 'second/float16' do not have"):
        bundle.read("second/float16")


@pytest.mark.parametrize(("length", "name"), [(0, "first/float32"), (100, "first/float64"), (155, "first/steps")])
def test_shortened_data_names_the_tensor_that_is_cut(prefix: Path, length: int, name: str) -> None:
    change(shard(prefix, 0), lambda content: content.__delitem__(slice(length, None)))
    message = rf"data-00000-of-00002: ends after {length} bytes, before the end of tensor '{name}'"
    with pytest.raises(ExportError, match=message):
        TensorBundle(prefix)


def test_a_missing_shard_is_named(prefix: Path) -> None:
    shard(prefix, 1).unlink()
    with pytest.raises(ExportError, match=r"bundle: there is no model\.ckpt\.data-00001-of-00002; copy"):
        TensorBundle(prefix)


def test_a_missing_index_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"there is no model\.ckpt\.index"):
        TensorBundle(tmp_path / "model.ckpt")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"endianness": BIG}, "is of a big-endian machine; export works for little-endian checkpoints"),
        ({"min_consumer": 2}, "needs a reader of version 2; export has version 1"),
        ({"compression": 1}, r"is compressed \(Snappy\), which is not read"),
        ({"compression": 7}, r"is compressed \(type 7\)"),
        ({"tamper": lambda block: b"\0" * 4}, "has no header"),
        ({"tamper": lambda block: b"\x08" + block[1:]}, "is damaged in its block at byte 0"),
    ],
)
def test_an_index_of_another_kind_is_refused(tmp_path: Path, options: dict, message: str) -> None:
    write_bundle(tmp_path / "x", {"a": np.zeros(3, np.float32)}, **options)
    with pytest.raises(ExportError, match=rf"x\.index: {message}"):
        TensorBundle(tmp_path / "x")


def test_a_size_that_is_not_the_shapes_is_refused(tmp_path: Path) -> None:
    def wider(block: bytes) -> bytes:
        assert block.count(b"\x12\x04\x12\x02\x08\x03") == 1  # shape [3]
        return block.replace(b"\x12\x04\x12\x02\x08\x03", b"\x12\x04\x12\x02\x08\x05")

    write_bundle(tmp_path / "x", {"a": np.zeros(3, np.float32)}, tamper=wider)
    with pytest.raises(ExportError, match=r"tensor 'a' of shape \[5\] and float32 has 12 bytes"):
        TensorBundle(tmp_path / "x").read("a")


def test_nonsense_under_right_checksums_is_refused_or_read_but_never_a_crash(tmp_path: Path) -> None:
    tensors = {"a/b": np.ones((2, 3), np.float32), "a/c": np.ones(2, np.float16)}
    rng = np.random.default_rng(0)

    def scramble(block: bytes) -> bytes:
        changed = bytearray(block)
        for at in rng.integers(0, len(changed), 2):
            changed[at] = rng.integers(256)
        return bytes(changed)

    refused = 0
    for _ in range(1000):
        write_bundle(tmp_path / "x", tensors, tamper=scramble)
        try:
            bundle = TensorBundle(tmp_path / "x")
            for name in bundle.entries:
                bundle.read(name)
        except ExportError:
            refused += 1
    assert refused > 500
