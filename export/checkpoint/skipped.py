"""What a checkpoint holds besides the network, for those who export it to read."""

import re
from collections.abc import Iterable, Iterator

from export.network.architectures.encoder import Encoder

_LISTED = 4

_NUMBER = re.compile(r"\D*\d+")  # up to that of the layer
_SLOT = re.compile(r"/(adam|lamb|momentum)\w*$", re.IGNORECASE)
_BUFFER = re.compile(r"embeddings\.(position_ids|token_type_ids)$|rotary_emb\.\w*inv_freq$")
_POOLER = re.compile(r"(?:^|[./])pooler[./](dense[./])?(weight|kernel|bias)$")


def describe(names: Iterable[str], encoder: Encoder) -> str:
    """Return a line's worth of the tensors that an export skipped; nothing where none is worth a word.

    Heads are named and optimizer slots counted. Layers and the pooler are left out because the user asked for
    others, and position ids are no weights: these are not spoken of.

    Args:
        names: The skipped tensors, by their names in Hugging Face's or Google's format, sorted.
        encoder: What the configuration describes. Layers above its last one are worth a word.
    """
    beginnings = tuple(_beginnings(encoder))
    others = [name for name in names if not _is_expected(name, beginnings)]
    slots = [name for name in others if _SLOT.search(name)]
    named = [name for name in others if not _SLOT.search(name)]
    words = named[:_LISTED]
    if len(named) > _LISTED:
        words.append(f"{len(named) - _LISTED} more")
    if slots:
        words.append(f"{len(slots)} optimizer slot{'s' * (len(slots) > 1)}")
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def _is_expected(name: str, beginnings: tuple[str, ...]) -> bool:
    if _SLOT.search(name):
        return False
    path = "." + name.replace("/layer_", ".layer.").replace("/", ".")  # Google's names as Hugging Face's
    return bool(_BUFFER.search(name) or _POOLER.search(name)) or any(f".{part}." in path for part in beginnings)


def _beginnings(encoder: Encoder) -> Iterator[str]:
    """How the names of what was left out begin: each layer, under each name it may have, and the norm behind them."""
    if encoder.final_norm:
        yield encoder.final_norm
    for layer in encoder.layers:
        number = _NUMBER.match(layer.norm)
        assert number
        yield number[0]
        for other in encoder.other_names:
            stored, matches = re.subn(f"^{other.pattern}", other.name, layer.norm)
            renamed = _NUMBER.match(stored) if matches else None
            if renamed:
                yield renamed[0]
