"""ModernBERT: norms before each block, RoPE, gates, and two layers of three that look 64 places to either side.

https://arxiv.org/abs/2412.13663
"""

from __future__ import annotations

from collections.abc import Mapping

from export.network.architectures import rotation
from export.network.architectures.config import Config
from export.network.architectures.encoder import Encoder, Layer, Norm, linear, linear_parts

_LOCAL, _GLOBAL = "sliding_attention", "full_attention"
_THETAS = {_GLOBAL: ("global_rope_theta", 160_000.0), _LOCAL: ("local_rope_theta", 10_000.0)}


def read(config: Config) -> Encoder:
    """Read its config.json."""
    hidden = config.size("hidden_size", 768)
    heads = config.heads(hidden, 12)
    turns = {kind: _turns(config, kind, hidden // heads) for kind in _THETAS}
    window = config.size("local_attention", 128) // 2
    attention_bias, mlp_bias = config.flag("attention_bias", False), config.flag("mlp_bias", False)

    def layer(index: int, kind: str) -> Layer:
        name = f"layers.{index}"
        query, key, value = linear_parts(f"{name}.attn.Wqkv", 3, attention_bias)
        gate, up = linear_parts(f"{name}.mlp.Wi", 2, mlp_bias)
        return Layer(
            query=query,
            key=key,
            value=value,
            attention_output=linear(f"{name}.attn.Wo", attention_bias),
            attention_norm=f"{name}.attn_norm" if index else None,
            gate=gate,
            up=up,
            down=linear(f"{name}.mlp.Wo", mlp_bias),
            norm=f"{name}.mlp_norm",
            frequencies=turns[kind],
            window=window if kind == _LOCAL else None,
        )

    return Encoder(
        model_type="modernbert",
        hidden_size=hidden,
        num_attention_heads=heads,
        intermediate_size=config.size("intermediate_size", 1152),
        vocab_size=config.size("vocab_size", 50368),
        max_positions=config.size("max_position_embeddings", 8192),
        type_vocab_size=0,
        hidden_act=config.activation("hidden_activation", "gelu"),
        norm=Norm(config.number("norm_eps", 1e-5), bias=config.flag("norm_bias", False)),
        words="embeddings.tok_embeddings",
        embeddings_norm="embeddings.norm",
        pre_norm=True,
        final_norm="final_norm",
        layers=tuple(layer(index, kind) for index, kind in enumerate(_kinds(config))),
    )


def _kinds(config: Config) -> list[str]:
    """Return the kind of attention of each layer."""
    count = config.size("num_hidden_layers", 22)
    every = config.size("global_attn_every_n_layers", 3)
    kinds = config.get("layer_types")
    if kinds is None:
        return [_LOCAL if index % every else _GLOBAL for index in range(count)]
    if not isinstance(kinds, list) or len(kinds) != count or not all(kind in (_LOCAL, _GLOBAL) for kind in kinds):
        raise config.error("layer_types", f"{count} times {_GLOBAL} or {_LOCAL} is expected")
    return kinds


def _turns(config: Config, kind: str, width: int) -> tuple[float, ...]:
    key, theta = _THETAS[kind]
    parameters = config.mapping("rope_parameters").get(kind) or {}
    if not isinstance(parameters, Mapping):
        raise config.error("rope_parameters", f"an object is expected, with one for each of {', '.join(_THETAS)}")
    scaling = config.mapping("rope_scaling")
    return rotation.of(config, {"rope_theta": config.number(key, theta), **parameters, **scaling}, theta, width)
