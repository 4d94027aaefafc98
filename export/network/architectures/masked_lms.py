"""The heads of transformers' `*ForMaskedLM`, each read from config.json.

They are as the classes of these names in transformers' modeling files have them.
"""

from __future__ import annotations

from collections.abc import Callable

from export.network.architectures.config import Config
from export.network.architectures.encoder import Encoder, Linear, MaskedLM, OtherName, Stored, linear


def _masked_lm(
    config: Config,
    encoder: Encoder,
    decoder: str,
    bias: str | None,
    *,
    dense: Linear | None,
    activation: str,
    norm: str | None,
    other_names: tuple[OtherName, ...] = (),
    tied: bool = True,
) -> MaskedLM:
    """A head. Unless the config says otherwise, or with `tied` not, its decoder's weight is that of the embeddings."""
    own = linear(decoder, bias is not None)
    if not config.flag("tie_word_embeddings", tied):
        return MaskedLM(own, dense, activation, norm, other_names)
    shared = Linear(Stored(f"{encoder.words}.weight"), Stored(bias) if bias else None)
    return MaskedLM(shared, dense, activation, norm, other_names, untied=own)


def _bert(config: Config, encoder: Encoder, norm: str = "LayerNorm") -> MaskedLM:
    head = "cls.predictions"
    return _masked_lm(
        config,
        encoder,
        f"{head}.decoder",
        f"{head}.bias",
        dense=linear(f"{head}.transform.dense"),
        activation=encoder.hidden_act,
        norm=f"{head}.transform.{norm}",
        other_names=(OtherName(r"cls\.predictions\.bias", f"{head}.decoder.bias"),),
    )


def _nomic_bert(config: Config, encoder: Encoder) -> MaskedLM:
    return _bert(config, encoder, "layer_norm")


def _roberta(config: Config, encoder: Encoder) -> MaskedLM:
    return _masked_lm(
        config,
        encoder,
        "lm_head.decoder",
        "lm_head.bias",
        dense=linear("lm_head.dense"),
        activation="gelu",
        norm="lm_head.layer_norm",
        other_names=(
            OtherName(r"lm_head\.bias", "lm_head.decoder.bias"),
            OtherName(r"lm_head\.layer_norm", "lm_head.norm"),  # GTE's
        ),
    )


def _distilbert(config: Config, encoder: Encoder) -> MaskedLM:
    return _masked_lm(
        config,
        encoder,
        "vocab_projector",
        "vocab_projector.bias",
        dense=linear("vocab_transform"),
        activation=encoder.hidden_act,
        norm="vocab_layer_norm",
    )


def _albert(config: Config, encoder: Encoder) -> MaskedLM:
    return _masked_lm(
        config,
        encoder,
        "predictions.decoder",
        "predictions.bias",
        dense=linear("predictions.dense"),
        activation=encoder.hidden_act,
        norm="predictions.LayerNorm",
        other_names=(OtherName(r"predictions\.bias", "predictions.decoder.bias"),),
    )


def _electra(config: Config, encoder: Encoder) -> MaskedLM:
    head = "generator_predictions"
    return _masked_lm(
        config,
        encoder,
        "generator_lm_head",
        "generator_lm_head.bias",
        dense=linear(f"{head}.dense"),
        activation="gelu",
        norm=f"{head}.LayerNorm",
    )


def _deberta(config: Config, encoder: Encoder) -> MaskedLM:
    if config.flag("legacy", True):
        return _bert(config, encoder)
    head = "lm_predictions.lm_head"
    return MaskedLM(
        decoder=Linear(Stored(f"{encoder.words}.weight"), Stored(f"{head}.bias")),
        dense=linear(f"{head}.dense"),
        activation=encoder.hidden_act,
        norm=f"{head}.LayerNorm",
    )


def _modernbert(config: Config, encoder: Encoder) -> MaskedLM:
    bias = "decoder.bias" if config.flag("decoder_bias", True) else None
    return _masked_lm(
        config,
        encoder,
        "decoder",
        bias,
        dense=linear("head.dense", config.flag("classifier_bias", False)),
        activation=config.activation("classifier_activation", "gelu"),
        norm="head.norm",
    )


def _eurobert(config: Config, encoder: Encoder) -> MaskedLM:
    bias = "lm_head.bias" if config.flag("mlp_bias", False) else None
    return _masked_lm(config, encoder, "lm_head", bias, dense=None, activation="", norm=None, tied=False)


READERS: dict[str, Callable[[Config, Encoder], MaskedLM]] = {
    "bert": _bert,
    "ernie": _bert,
    "roc_bert": _bert,
    "electra": _electra,
    "roberta": _roberta,
    "xlm-roberta": _roberta,
    "camembert": _roberta,
    "xlm-roberta-xl": _roberta,
    "distilbert": _distilbert,
    "mpnet": _roberta,
    "albert": _albert,
    "deberta": _deberta,
    "deberta-v2": _deberta,
    "modernbert": _modernbert,
    "nomic_bert": _nomic_bert,
    "gte": _roberta,
    "jina_embeddings_v3": _roberta,
    "eurobert": _eurobert,
}
"""By `model_type`."""
