"""The heads of transformers' `*ForSequenceClassification`, each read from config.json.

They are as the classes of these names in transformers' modeling files have them; dropout does nothing here.
"""

from __future__ import annotations

from collections.abc import Callable

from export.network.architectures.config import Config
from export.network.architectures.encoder import Classifier, linear


def _behind_pooler(config: Config, pooler: str = "pooler.dense") -> Classifier:
    """BERT's: a linear layer behind the tanh pooler."""
    return Classifier(config.labels(), linear("classifier"), dense=linear(pooler))


def _behind_albert(config: Config) -> Classifier:
    return _behind_pooler(config, "pooler")


def _behind_first(config: Config, activation: str = "tanh") -> Classifier:
    """RoBERTa's: two linear layers of its own, on the first token."""
    head = "classifier"
    return Classifier(config.labels(), linear(f"{head}.out_proj"), dense=linear(f"{head}.dense"), activation=activation)


def _electra(config: Config) -> Classifier:
    return _behind_first(config, "gelu")


def _distilbert(config: Config) -> Classifier:
    return Classifier(config.labels(), linear("classifier"), dense=linear("pre_classifier"), activation="relu")


def _deberta(config: Config) -> Classifier:
    """ContextPooler's layer, and a linear one."""
    activation = config.activation("pooler_hidden_act", "gelu")
    return Classifier(config.labels(), linear("classifier"), dense=linear("pooler.dense"), activation=activation)


def _modernbert(config: Config) -> Classifier:
    """ModernBertPredictionHead's layers, and a linear one."""
    return Classifier(
        config.labels(),
        linear("classifier"),
        pooling="first" if config.only("classifier_pooling", ("cls", "mean"), "cls") == "cls" else "mean",
        dense=linear("head.dense", config.flag("classifier_bias", False)),
        activation=config.activation("classifier_activation", "gelu"),
        norm="head.norm",
    )


def _eurobert(config: Config) -> Classifier:
    """Two linear layers; `late` is the mean of every token's logits, which is their output of the mean before it."""
    pooling = config.only("classifier_pooling", ("late", "mean", "bos"), "late")
    return Classifier(
        config.labels(),
        linear("classifier"),
        pooling="first" if pooling == "bos" else "mean",
        dense=linear("dense"),
        activation="gelu",
        pools_last=pooling == "late",
    )


READERS: dict[str, Callable[[Config], Classifier]] = {
    "bert": _behind_pooler,
    "ernie": _behind_pooler,
    "roc_bert": _behind_pooler,
    "electra": _electra,
    "roberta": _behind_first,
    "xlm-roberta": _behind_first,
    "camembert": _behind_first,
    "xlm-roberta-xl": _behind_first,
    "distilbert": _distilbert,
    "mpnet": _behind_first,
    "albert": _behind_albert,
    "deberta": _deberta,
    "deberta-v2": _deberta,
    "modernbert": _modernbert,
    "nomic_bert": _behind_pooler,
    "gte": _behind_pooler,
    "jina_embeddings_v3": _behind_first,
    "eurobert": _eurobert,
}
"""By `model_type`."""
