"""TensorFlow's checkpoint files (the tensor bundle of `tf.train.Saver`, format V2), read without TensorFlow.

PREFIX.index is a table as LevelDB has it: blocks of sorted keys and values, an index block that says where they are,
and a footer that says where the index block is. A key is a tensor's name and its value a BundleEntryProto, which says
where in PREFIX.data-0000i-of-0000N, the shards, its bytes are; the empty key holds a BundleHeaderProto. Every block
and every tensor has a checksum (CRC-32C, masked), and all of them are checked.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import google_crc32c
import ml_dtypes
import numpy as np
import numpy.typing as npt

from export.errors import ExportError

_MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")
_FOOTER_BYTES = 48
_TRAILER_BYTES = 5
_COMPRESSIONS = {1: "Snappy"}
_READER_VERSION = 1
_FIXED_BYTES = {1: 8, 5: 4}  # by protobuf's wire type

FLOAT_TYPES: dict[int, npt.DTypeLike] = {1: np.float32, 2: np.float64, 14: ml_dtypes.bfloat16, 19: np.float16}
"""The types that `read` knows, by their number in TensorFlow's DataType."""


@dataclass(frozen=True)
class Entry:
    """Where a tensor is, as BundleEntryProto says it.

    Attributes:
        type: Number in TensorFlow's DataType.
        shape: Its dimensions.
        shard: Which data file holds it.
        offset: Its first byte there.
        size: Its length in bytes.
        checksum: Masked CRC-32C of these bytes.
        sliced: Whether it is stored in slices under other keys (a partitioned variable).
    """

    type: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int
    sliced: bool


class TensorBundle:
    """The tensors of a checkpoint, by name; a data file is memory-mapped where one is asked for, and while it is used.

    Attributes:
        index: Path of the index file.
        entries: Where each tensor is, by name.
    """

    def __init__(self, prefix: Path) -> None:
        """Read PREFIX.index, and how long the data files are that it names.

        Raises:
            ExportError: A file is absent, damaged, incomplete or not of this format.
        """
        self.index = Path(f"{prefix}.index")
        try:
            shards, self.entries = _read_index(self.index.read_bytes())
        except FileNotFoundError:
            raise ExportError(f"{prefix.parent}: there is no {self.index.name}") from None
        except OSError as error:
            raise ExportError(f"{self.index}: cannot be read ({error.strerror})") from error
        except ValueError as error:
            raise ExportError(f"{self.index}: {error}") from error
        self._files = {
            entry.shard: Path(f"{prefix}.data-{entry.shard:05}-of-{shards:05}") for entry in self.entries.values()
        }
        self._check_extents()

    def read(self, name: str) -> npt.NDArray[Any]:
        """Return a tensor of one of `FLOAT_TYPES`, a read-only view of the mapped file.

        Raises:
            KeyError: There is none of this name.
            ExportError: Its bytes are damaged, or it is stored in slices or in another type.
        """
        entry = self.entries[name]
        if entry.sliced:
            raise ExportError(
                f"{self.index}: tensor {name!r} is stored in slices (a partitioned variable), which are not read; "
                "save the checkpoint again without a partitioner"
            )
        if entry.type not in FLOAT_TYPES:
            allowed = ", ".join(np.dtype(known).name for known in FLOAT_TYPES.values())
            raise ExportError(f"{self.index}: tensor {name!r} is of DataType {entry.type}, but {allowed} can be read")
        dtype = np.dtype(FLOAT_TYPES[entry.type])
        if entry.size != prod(entry.shape) * dtype.itemsize:
            raise ExportError(
                f"{self.index}: tensor {name!r} of shape {list(entry.shape)} and {dtype} has {entry.size} bytes"
            )
        data = _map(self._files[entry.shard])[entry.offset : entry.offset + entry.size]
        if _masked_crc32c(data) != entry.checksum:
            raise ExportError(
                f"{self._files[entry.shard]}: the bytes of tensor {name!r} do not have their checksum; the file is "
                "damaged, copy or download it again"
            )
        return data.view(dtype).reshape(entry.shape)

    def _check_extents(self) -> None:
        sizes = {shard: len(_map(path)) for shard, path in self._files.items()}
        for name, entry in self.entries.items():
            size = sizes[entry.shard]
            if entry.offset + entry.size > size:
                raise ExportError(
                    f"{self._files[entry.shard]}: ends after {size} bytes, before the end of tensor {name!r} at "
                    f"{entry.offset + entry.size}; copy or download it again"
                )


def _map(path: Path) -> npt.NDArray[np.uint8]:
    try:
        if path.stat().st_size == 0:  # which cannot be mapped
            return np.empty(0, np.uint8)
        return np.asarray(np.memmap(path, np.uint8, mode="r"))
    except FileNotFoundError:
        raise ExportError(f"{path.parent}: there is no {path.name}; copy or download it too") from None
    except OSError as error:
        raise ExportError(f"{path}: cannot be read ({error.strerror})") from error


def _read_index(data: bytes) -> tuple[int, dict[str, Entry]]:
    """Return how many data files there are, and where each tensor is.

    Raises:
        ValueError: It is damaged or not of this format; the message is the rest of a sentence about it.
    """
    values = dict(_table(data))
    if b"" not in values:
        raise ValueError("has no header; it is not the index of a TensorFlow checkpoint")
    # A key that begins with 0 is not a name, but a slice of the tensor whose name follows.
    entries = {key.decode(): _entry(value) for key, value in values.items() if key and key[0]}
    return _shard_count(values[b""]), entries


def _shard_count(header: bytes) -> int:
    numbers, parts = _fields(header)
    if numbers.get(2):
        raise ValueError("is of a big-endian machine; export works for little-endian checkpoints")
    needed = _fields(b"".join(parts[3]))[0].get(2, 0)
    if needed > _READER_VERSION:
        raise ValueError(f"needs a reader of version {needed}; export has version {_READER_VERSION}")
    return numbers.get(1, 0)


def _entry(message: bytes) -> Entry:
    numbers, parts = _fields(message)
    _, dimensions = _fields(b"".join(parts[2]))
    return Entry(
        type=numbers.get(1, 0),
        shape=tuple(_fields(dimension)[0].get(1, 0) for dimension in dimensions[2]),
        shard=numbers.get(3, 0),
        offset=numbers.get(4, 0),
        size=numbers.get(5, 0),
        checksum=numbers.get(6, 0),
        sliced=bool(parts[7]),
    )


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield every key and value of a table."""
    footer = data[-_FOOTER_BYTES:]
    if len(footer) < _FOOTER_BYTES or not footer.endswith(_MAGIC):
        raise ValueError("does not end as the index of a TensorFlow checkpoint does; it is incomplete or another file")
    _, after_metaindex = _handle(footer, 0)  # TensorFlow leaves the metaindex block empty
    index, _ = _handle(footer, after_metaindex)
    for _, handle in _block(data, *index):
        yield from _block(data, *_handle(handle, 0)[0])


def _handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    """Return where a block is (offset and size), and where its handle ends."""
    offset, at = _varint(data, at)
    size, at = _varint(data, at)
    return (offset, size), at


def _block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a block, after its checksum has been checked.

    A key is stored as how much of the key before it shares its beginning with it, and the rest.
    """
    block, trailer = data[offset : offset + size], data[offset + size : offset + size + _TRAILER_BYTES]
    damage = f"is damaged in its block at byte {offset}; copy or download it again"
    checksum = int.from_bytes(trailer[1:], "little")
    if len(trailer) < _TRAILER_BYTES or _masked_crc32c(block + trailer[:1]) != checksum:
        raise ValueError(damage)
    if trailer[0]:
        kind = _COMPRESSIONS.get(trailer[0], f"type {trailer[0]}")
        raise ValueError(
            f"is compressed ({kind}), which is not read; load the checkpoint with TensorFlow 1.15 or later and save it "
            "again, which writes it uncompressed"
        )
    restarts = int.from_bytes(block[-4:], "little")  # places to jump to, behind the entries
    end = len(block) - 4 * (restarts + 1)
    key, at = b"", 0
    while at < end:
        shared, at = _varint(block, at)
        rest, at = _varint(block, at)
        length, at = _varint(block, at)
        value_at = at + rest
        if shared > len(key) or value_at + length > end:
            raise ValueError(damage)
        key = key[:shared] + block[at:value_at]
        at = value_at + length
        yield key, block[value_at:at]


def _fields(message: bytes) -> tuple[dict[int, int], dict[int, list[bytes]]]:
    """Return the fields of a protobuf message by number: those that hold a number, and those that hold bytes."""
    numbers: dict[int, int] = {}
    parts: dict[int, list[bytes]] = defaultdict(list)
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        field, wire_type = tag >> 3, tag & 7
        if wire_type == 0:
            numbers[field], at = _varint(message, at)
            continue
        if wire_type == 2:
            size, at = _varint(message, at)
        elif wire_type in _FIXED_BYTES:
            size = _FIXED_BYTES[wire_type]
        else:
            raise ValueError(f"holds a field of wire type {wire_type}; it is not the index of a TensorFlow checkpoint")
        part = message[at : at + size]
        if len(part) < size:
            raise ValueError("holds a field that is cut short; it is not the index of a TensorFlow checkpoint")
        at += size
        if wire_type == 2:
            parts[field].append(part)
        else:
            numbers[field] = int.from_bytes(part, "little")
    return numbers, parts


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at byte `at`, seven bits a byte from the lowest on, and where it ends."""
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("holds a number that does not end; it is damaged, copy or download it again")


def _masked_crc32c(data: bytes | npt.NDArray[np.uint8]) -> int:
    """Return LevelDB's checksum: CRC-32C, turned so that what holds a checksum can have one itself."""
    crc: int = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
