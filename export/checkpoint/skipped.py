"""What a checkpoint holds besides the network, for those who export it to read."""

import re
from collections.abc import Iterable

_LISTED = 4

_SLOT = re.compile(r"/(adam|lamb|momentum)\w*$", re.IGNORECASE)
_BUFFER = re.compile(r"embeddings\.(position_ids|token_type_ids)$")
_LAYER = re.compile(r"(?:^|[./])encoder[./]layer[._](\d+)[./]")
_POOLER = re.compile(r"(?:^|[./])pooler[./]dense[./]\w+$")


def describe(names: Iterable[str], layers: int) -> str:
    """Return a line's worth of the tensors that an export skipped; nothing where none is worth a word.

    Heads are named and optimizer slots counted. Layers and the pooler are left out because the user asked for
    others, and position ids are no weights: these are not spoken of.

    Args:
        names: The skipped tensors, by their names in Hugging Face's or Google's format, sorted.
        layers: How many layers the configuration says there are. Those above are worth a word.
    """
    others = [name for name in names if not _is_expected(name, layers)]
    slots = [name for name in others if _SLOT.search(name)]
    named = [name for name in others if not _SLOT.search(name)]
    words = named[:_LISTED]
    if len(named) > _LISTED:
        words.append(f"{len(named) - _LISTED} more")
    if slots:
        words.append(f"{len(slots)} optimizer slot{'s' * (len(slots) > 1)}")
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def _is_expected(name: str, layers: int) -> bool:
    if _SLOT.search(name):
        return False
    layer = _LAYER.search(name)
    return int(layer[1]) < layers if layer else bool(_BUFFER.search(name) or _POOLER.search(name))
