"""TensorFlow checkpoints on disk, written by the format's description; real ones are in tests/data."""

import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import google_crc32c
import numpy as np

from tests.support.checkpoints.folders import write_json

LITTLE, BIG = 0, 1
_TYPES = {"float32": 1, "float64": 2, "int32": 3, "int64": 9, "float16": 19}


def write_bundle(
    prefix: Path,
    tensors: Mapping[str, np.ndarray],
    *,
    shards: int = 1,
    block_bytes: int = 4096,
    endianness: int = LITTLE,
    min_consumer: int = 0,
    compression: int = 0,
    tamper: Callable[[bytes], bytes] = lambda block: block,
) -> None:
    """Write a checkpoint, its tensors dealt out to the shards in turn.

    `block_bytes` is how long a block of the index gets before the next one begins; `tamper` changes the blocks of
    keys and values before they get their checksums.
    """
    prefix.parent.mkdir(parents=True, exist_ok=True)
    data = [bytearray() for _ in range(shards)]
    pairs = [(b"", _number(1, shards) + _number(2, endianness) + _message(3, _number(2, min_consumer)))]
    for turn, (name, tensor) in enumerate(sorted(tensors.items())):
        content, shard = tensor.tobytes(), turn % shards
        shape = b"".join(_message(2, _number(1, length)) for length in tensor.shape)
        pairs.append(
            (
                name.encode(),
                _number(1, _TYPES[tensor.dtype.name])
                + _message(2, shape)
                + _number(3, shard)
                + _number(4, len(data[shard]))
                + _number(5, len(content))
                + b"\x35"  # field 6, of 4 bytes
                + struct.pack("<I", _masked_crc32c(content)),
            )
        )
        data[shard] += content
    for shard, content in enumerate(data):
        Path(f"{prefix}.data-{shard:05}-of-{shards:05}").write_bytes(content)
    Path(f"{prefix}.index").write_bytes(_table(pairs, block_bytes, compression, tamper))


def write_google(folder: Path, weights: Mapping[str, np.ndarray], config: Mapping[str, object], **options: int) -> None:
    """Write BertModel's weights and a configuration in Google's format, without a vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "bert_config.json", config)
    write_bundle(folder / "bert_model.ckpt", google_names(weights), **options)  # type: ignore[arg-type]


def google_names(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return BertModel's weights as the variables of Google's code."""
    replacements = (
        ("_embeddings.weight", "_embeddings"),
        ("LayerNorm.weight", "LayerNorm.gamma"),
        ("LayerNorm.bias", "LayerNorm.beta"),
        (".weight", ".kernel"),
        ("layer.", "layer_"),
        (".", "/"),
    )
    variables = {}
    for name, values in weights.items():
        for old, new in replacements:
            name = name.replace(old, new)
        variables[f"bert/{name}"] = values.T.copy() if name.endswith("kernel") else values
    return variables


def _table(
    pairs: list[tuple[bytes, bytes]], block_bytes: int, compression: int, tamper: Callable[[bytes], bytes]
) -> bytes:
    file = bytearray()

    def append(block: bytes) -> bytes:
        handle = _varint(len(file)) + _varint(len(block))
        sealed = block + bytes([compression])
        file.extend(sealed + struct.pack("<I", _masked_crc32c(sealed)))
        return handle

    handles, waiting, size = [], [], 0
    for key, value in pairs:
        waiting.append((key, value))
        size += len(key) + len(value)
        if size >= block_bytes or (key, value) == pairs[-1]:
            handles.append((key, append(tamper(_block(waiting)))))
            waiting, size = [], 0
    metaindex = append(_block([]))
    index = append(_block(handles))
    footer = (metaindex + index).ljust(40, b"\0") + bytes.fromhex("57fb808b247547db")
    return bytes(file) + footer


def _block(pairs: list[tuple[bytes, bytes]]) -> bytes:
    """Every third key is written whole, and a place to jump to."""
    block, restarts, last = bytearray(), [], b""
    for turn, (key, value) in enumerate(pairs):
        shared = 0
        if turn % 3:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        else:
            restarts.append(len(block))
        block += _varint(shared) + _varint(len(key) - shared) + _varint(len(value)) + key[shared:] + value
        last = key
    restarts = restarts or [0]
    return bytes(block) + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    groups = bytearray()
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def _masked_crc32c(content: bytes) -> int:
    crc = google_crc32c.value(content)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32
