"""The architectures that export writes networks for, each read from config.json by a module of its own."""

from __future__ import annotations

from collections.abc import Callable

from export.network.architectures import (
    albert,
    bert,
    deberta,
    distilbert,
    eurobert,
    modernbert,
    mpnet,
    rotated,
    xlm_roberta_xl,
)
from export.network.architectures.config import Config
from export.network.architectures.encoder import Encoder

READERS: dict[str, Callable[[Config], Encoder]] = {
    "bert": bert.read,
    "ernie": bert.read_ernie,
    "roc_bert": bert.read_roc_bert,
    "electra": bert.read_electra,
    "roberta": bert.read_roberta,
    "xlm-roberta": bert.read_roberta,
    "camembert": bert.read_roberta,
    "xlm-roberta-xl": xlm_roberta_xl.read,
    "distilbert": distilbert.read,
    "mpnet": mpnet.read,
    "albert": albert.read,
    "deberta": deberta.read,
    "deberta-v2": deberta.read_v2,
    "modernbert": modernbert.read,
    "nomic_bert": rotated.read_nomic_bert,
    "gte": rotated.read_gte,
    "jina_embeddings_v3": rotated.read_jina_embeddings_v3,
    "eurobert": eurobert.read,
}
"""By `model_type`."""
