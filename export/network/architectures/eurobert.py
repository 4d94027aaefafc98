"""EuroBERT: the layers of Llama, attending to both sides: RMS norms before each block, RoPE, gates, shared key heads.

https://arxiv.org/abs/2503.05500
"""

from __future__ import annotations

from export.network.architectures import rotation
from export.network.architectures.config import Config
from export.network.architectures.encoder import Encoder, Layer, Norm, linear


def read(config: Config) -> Encoder:
    """Read its config.json."""
    hidden = config.size("hidden_size", 768)
    heads = config.heads(hidden, 12)
    size = config.optional_size("head_dim", hidden // heads)
    pairs = config.optional_size("num_key_value_heads", heads)
    if heads % pairs:
        raise config.error("num_key_value_heads", f"a divisor of num_attention_heads {heads} is expected")
    turns = rotation.read(config, 10_000.0, size)
    attention_bias, mlp_bias = config.flag("attention_bias", False), config.flag("mlp_bias", False)

    def layer(name: str) -> Layer:
        return Layer(
            query=linear(f"{name}.self_attn.q_proj", attention_bias),
            key=linear(f"{name}.self_attn.k_proj", attention_bias),
            value=linear(f"{name}.self_attn.v_proj", attention_bias),
            attention_output=linear(f"{name}.self_attn.o_proj", attention_bias),
            attention_norm=f"{name}.input_layernorm",
            gate=linear(f"{name}.mlp.gate_proj", mlp_bias),
            up=linear(f"{name}.mlp.up_proj", mlp_bias),
            down=linear(f"{name}.mlp.down_proj", mlp_bias),
            norm=f"{name}.post_attention_layernorm",
            frequencies=turns,
        )

    return Encoder(
        model_type="eurobert",
        hidden_size=hidden,
        num_attention_heads=heads,
        head_size=size,
        num_key_value_heads=pairs,
        intermediate_size=config.size("intermediate_size", 3072),
        vocab_size=config.size("vocab_size", 128256),
        max_positions=config.size("max_position_embeddings", 8192),
        type_vocab_size=0,
        hidden_act=config.activation("hidden_act", "silu"),
        norm=Norm(config.number("rms_norm_eps", 1e-5), kind="rms"),
        words="embed_tokens",
        pre_norm=True,
        final_norm="norm",
        layers=tuple(layer(f"layers.{index}") for index in range(config.size("num_hidden_layers", 12))),
    )
