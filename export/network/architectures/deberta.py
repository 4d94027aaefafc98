"""DeBERTa and its second and third version: contents and relative positions are attended to apart.

https://arxiv.org/abs/2006.03654, https://arxiv.org/abs/2111.09543
"""

from __future__ import annotations

from dataclasses import replace

from export.network.architectures import bert
from export.network.architectures.config import Config
from export.network.architectures.encoder import Convolution, Disentangled, Encoder, Layer, Linear, Stored, linear

_KINDS = ("c2p", "p2c")


def read(config: Config) -> Encoder:
    """Read the config.json of the first version."""
    config.only("talking_head", (False,), False)
    encoder = bert.read(config, "deberta", epsilon=1e-7, least_types=0, vocab_size=50265, type_vocab_size=0)
    encoder = _with_options(config, encoder)
    kinds = _position_kinds(config)
    heads = encoder.num_attention_heads

    def layer(name: str) -> Layer:
        own = f"{name}.attention.self"
        query, key, value = (Stored(f"{own}.in_proj.weight", part, 3, heads) for part in range(3))
        return replace(
            bert.layer(name),
            query=Linear(query, Stored(f"{own}.q_bias")),
            key=Linear(key, None),
            value=Linear(value, Stored(f"{own}.v_bias")),
            position_key=linear(f"{own}.pos_proj", bias=False) if "c2p" in kinds else None,
            position_query=linear(f"{own}.pos_q_proj") if "p2c" in kinds else None,
        )

    span = _furthest(config, encoder)
    return replace(
        encoder,
        layers=tuple(layer(f"encoder.layer.{index}") for index in range(encoder.num_hidden_layers)),
        disentangled=Disentangled("encoder.rel_embeddings.weight", span, False, span, None) if kinds else None,
    )


def read_v2(config: Config) -> Encoder:
    """Read the config.json of the second or third version."""
    encoder = bert.read(
        config,
        "deberta-v2",
        epsilon=1e-7,
        least_types=0,
        type_vocab_size=0,
        vocab_size=128100,
        hidden_size=1536,
        num_hidden_layers=24,
        num_attention_heads=24,
        intermediate_size=6144,
    )
    encoder = _with_options(config, encoder)
    heads = encoder.num_attention_heads
    if config.size("attention_head_size", encoder.width) * heads != encoder.hidden_size:
        raise config.error("attention_head_size", f"export works for hidden_size / num_attention_heads {encoder.width}")
    kinds = _position_kinds(config)
    shared = config.flag("share_att_key", False)

    def layer(name: str) -> Layer:
        own = f"{name}.attention.self"
        query, key = linear(f"{own}.query_proj"), linear(f"{own}.key_proj")
        return replace(
            bert.layer(name),
            query=query,
            key=key,
            value=linear(f"{own}.value_proj"),
            position_key=(key if shared else linear(f"{own}.pos_key_proj")) if "c2p" in kinds else None,
            position_query=(query if shared else linear(f"{own}.pos_query_proj")) if "p2c" in kinds else None,
        )

    furthest = _furthest(config, encoder)
    buckets = _positive_or_none(config, "position_buckets")
    if buckets and not 1 <= buckets // 2 < furthest - 1:
        raise config.error(
            "position_buckets", f"2 on is expected, up to twice the longest distance, which is {furthest}"
        )
    norm = config.get("norm_rel_ebd", "none")
    if not isinstance(norm, str):
        raise config.error("norm_rel_ebd", "text is expected")
    norms = [part.strip() for part in norm.lower().split("|")]
    return replace(
        encoder,
        layers=tuple(layer(f"encoder.layer.{index}") for index in range(encoder.num_hidden_layers)),
        disentangled=Disentangled(
            "encoder.rel_embeddings.weight",
            buckets or furthest,
            buckets is not None,
            furthest,
            "encoder.LayerNorm" if "layer_norm" in norms else None,
        )
        if kinds
        else None,
        convolution=_convolution(config, encoder.hidden_size),
    )


def _convolution(config: Config, hidden_size: int) -> Convolution | None:
    size = config.size("conv_kernel_size", 0, least=0)
    if not size:
        return None
    if size % 2 == 0:
        raise config.error("conv_kernel_size", "an odd number is expected")
    groups = config.size("conv_groups", 1)
    if hidden_size % groups:
        raise config.error("conv_groups", f"a divisor of hidden_size {hidden_size} is expected")
    return Convolution("encoder.conv", size, groups, config.activation("conv_act", "tanh"))


def _with_options(config: Config, encoder: Encoder) -> Encoder:
    """Return what the versions have in common: BERT, whose positions may be left out, and its embeddings shorter."""
    size = config.size("embedding_size", encoder.hidden_size)
    return replace(
        encoder,
        positions=encoder.positions if config.flag("position_biased_input", True) else None,
        embedding_size=size,
        early_projection=None if size == encoder.hidden_size else linear("embeddings.embed_proj", bias=False),
        pooler=None,
    )


def _position_kinds(config: Config) -> list[str]:
    """Return which of c2p and p2c there are; none without relative attention."""
    kinds = config.get("pos_att_type") or []
    if isinstance(kinds, str):
        kinds = [kind.strip() for kind in kinds.lower().split("|")]
    if not isinstance(kinds, list) or not all(kind in _KINDS for kind in kinds):
        raise config.error("pos_att_type", f"a list of {' and '.join(_KINDS)} is expected")
    if not config.flag("relative_attention", False):
        if kinds:
            raise config.error("pos_att_type", "relative_attention, without which it only scales scores, is false")
        return []
    if not kinds:
        raise config.error("pos_att_type", "relative_attention is true, and this says nothing of how")
    return list(kinds)


def _furthest(config: Config, encoder: Encoder) -> int:
    """Return max_relative_positions, or the number of positions where it says nothing."""
    return _positive_or_none(config, "max_relative_positions") or encoder.max_positions


def _positive_or_none(config: Config, key: str) -> int | None:
    """Return an int above 0, for which others, -1 where it is absent, stand for none."""
    value = config.get(key, -1)
    if not isinstance(value, int) or isinstance(value, bool):
        raise config.error(key, "an int is expected")
    return config.size(key, -1) if value > 0 else None
