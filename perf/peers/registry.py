"""All systems of the comparison, in the order of the tables."""

from __future__ import annotations

from collections.abc import Sequence

from .bare import BareNarrow, BareWide
from .bert_as_service import BertAsService, BertAsServiceByDefault
from .environment import Environment
from .fastapi_peer import FastAPIServer
from .infinity import InfinityOnnx, InfinityTorch
from .mosec_peer import Mosec
from .ours import Ours
from .ours_http import OursHttp
from .peer import Peer
from .sentence_transformers_onnx import SentenceTransformersOnnx
from .sentence_transformers_torch import SentenceTransformersTorch

OURS = (Ours.name, OursHttp.name)
CEILINGS = (BareWide.name, BareNarrow.name)

SYSTEMS: tuple[Peer, ...] = (
    BareWide(),
    BareNarrow(),
    Ours(),
    OursHttp(),
    Mosec(),
    InfinityOnnx(),
    InfinityTorch(),
    SentenceTransformersOnnx(),
    SentenceTransformersTorch(),
    FastAPIServer(),
    BertAsService(),
    BertAsServiceByDefault(),
)


def chosen(names: Sequence[str]) -> list[Peer]:
    """The systems of these names, in the order of the tables; all if there are none.

    Raises:
        ValueError: there is no such system.
    """
    known = [system.name for system in SYSTEMS]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"no system is called {', '.join(unknown)}: there are {', '.join(known)}")
    return [system for system in SYSTEMS if not names or system.name in names]


def environments(systems: Sequence[Peer]) -> list[Environment]:
    """All that these need, each once."""
    return list({each.name: each for system in systems for each in system.environments}.values())
