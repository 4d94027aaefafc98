"""All systems of the comparison, in the order of the tables."""

from __future__ import annotations

from collections.abc import Sequence

from perf.compare.systems.bare import BareNarrow, BareWide
from perf.compare.systems.bert_as_service.system import BertAsService, BertAsServiceByDefault
from perf.compare.systems.ctranslate2 import CTranslate2, CTranslate2Int8
from perf.compare.systems.environment import Environment
from perf.compare.systems.fastapi import FastAPIServer
from perf.compare.systems.fastembed import FastEmbed, FastEmbedSorted
from perf.compare.systems.infinity import InfinityOnnx, InfinityTorch
from perf.compare.systems.mosec import Mosec
from perf.compare.systems.openvino import OpenVINO, OpenVINOInt8
from perf.compare.systems.ours import Ours
from perf.compare.systems.ours_gateway import OursGateway
from perf.compare.systems.ours_http import OursHttp
from perf.compare.systems.ours_int8 import OursInt8
from perf.compare.systems.sentence_transformers.onnx import SentenceTransformersOnnx
from perf.compare.systems.sentence_transformers.torch import SentenceTransformersTorch
from perf.compare.systems.system import Peer

OURS = (Ours.name, OursHttp.name, OursGateway.name, OursInt8.name)
CEILINGS = (BareWide.name, BareNarrow.name)

SYSTEMS: tuple[Peer, ...] = (
    BareWide(),
    BareNarrow(),
    CTranslate2(),
    OpenVINO(),
    Ours(),
    OursHttp(),
    OursGateway(),
    Mosec(),
    InfinityOnnx(),
    InfinityTorch(),
    SentenceTransformersOnnx(),
    SentenceTransformersTorch(),
    FastEmbedSorted(),
    FastEmbed(),
    FastAPIServer(),
    BertAsService(),
    BertAsServiceByDefault(),
    OursInt8(),
    CTranslate2Int8(),
    OpenVINOInt8(),
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
