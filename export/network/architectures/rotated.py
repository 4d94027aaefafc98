"""BERT with rotations for positions: NomicBERT and GTE (with gates) and Jina Embeddings v3 (without).

https://arxiv.org/abs/2402.01613, https://arxiv.org/abs/2407.19669, https://arxiv.org/abs/2409.10173
"""

from __future__ import annotations

from dataclasses import replace

from export.network.architectures import bert, rotation
from export.network.architectures.config import Config
from export.network.architectures.encoder import Encoder, Layer, OtherName, linear

_PROJECTIONS = ("q_proj", "k_proj", "v_proj")

# The names that the code beside the first checkpoints gave to weights, which transformers writes too.
_NOMIC = (
    OtherName(r"embeddings\.LayerNorm", "emb_ln"),
    *(
        OtherName(rf"layers\.(\d+)\.self_attn\.{projection}", r"encoder.layers.\1.attn.Wqkv", part, 3)
        for part, projection in enumerate(_PROJECTIONS)
    ),
    OtherName(r"layers\.(\d+)\.self_attn\.o_proj", r"encoder.layers.\1.attn.out_proj"),
    OtherName(r"layers\.(\d+)\.mlp\.up_proj", r"encoder.layers.\1.mlp.fc11"),
    OtherName(r"layers\.(\d+)\.mlp\.gate_proj", r"encoder.layers.\1.mlp.fc12"),
    OtherName(r"layers\.(\d+)\.mlp\.down_proj", r"encoder.layers.\1.mlp.fc2"),
    OtherName(r"layers\.(\d+)\.post_attention_layernorm", r"encoder.layers.\1.norm1"),
    OtherName(r"layers\.(\d+)\.post_mlp_layernorm", r"encoder.layers.\1.norm2"),
)
_NOMIC_KEYS = {
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "intermediate_size": "n_inner",
    "layer_norm_eps": "layer_norm_epsilon",
    "max_position_embeddings": "max_trained_positions",
    "rope_theta": "rotary_emb_base",
}
"""What transformers calls the keys of NomicBERT's own code."""

_NOMIC_BLOCKS = {
    "activation_function": "swiglu",
    "prenorm": False,
    "parallel_block": False,
    "causal": False,
    "use_rms_norm": False,
    "qkv_proj_bias": False,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "rotary_scaling_factor": None,
    "num_experts": 0,
    "moe_every_n_layers": 0,
}
"""Keys of its own code that describe another network if they say anything else."""

_GTE = (
    *(
        OtherName(rf"layers\.(\d+)\.self_attn\.{projection}", r"encoder.layer.\1.attention.qkv_proj", part, 3)
        for part, projection in enumerate(_PROJECTIONS)
    ),
    OtherName(r"layers\.(\d+)\.self_attn\.o_proj", r"encoder.layer.\1.attention.o_proj"),
    OtherName(r"layers\.(\d+)\.mlp\.up_proj", r"encoder.layer.\1.mlp.up_gate_proj", 0, 2),
    OtherName(r"layers\.(\d+)\.mlp\.gate_proj", r"encoder.layer.\1.mlp.up_gate_proj", 1, 2),
    OtherName(r"layers\.(\d+)\.mlp\.down_proj", r"encoder.layer.\1.mlp.down_proj"),
    OtherName(r"layers\.(\d+)\.post_attention_layernorm", r"encoder.layer.\1.attn_ln"),
    OtherName(r"layers\.(\d+)\.post_mlp_layernorm", r"encoder.layer.\1.mlp_ln"),
)
_GTE_BLOCKS = {"layer_norm_type": "layer_norm", "logn_attention_scale": False}
"""Keys of its own code that describe another network if they say anything else."""

_JINA = (
    OtherName(r"embeddings\.LayerNorm", "emb_ln"),
    *(
        OtherName(rf"layers\.(\d+)\.self_attn\.{projection}", r"encoder.layers.\1.mixer.Wqkv", part, 3)
        for part, projection in enumerate(_PROJECTIONS)
    ),
    OtherName(r"layers\.(\d+)\.self_attn\.o_proj", r"encoder.layers.\1.mixer.out_proj"),
    OtherName(r"layers\.(\d+)\.mlp", r"encoder.layers.\1.mlp"),
    OtherName(r"layers\.(\d+)\.post_attention_layernorm", r"encoder.layers.\1.norm1"),
    OtherName(r"layers\.(\d+)\.post_mlp_layernorm", r"encoder.layers.\1.norm2"),
)


def read_nomic_bert(config: Config) -> Encoder:
    """Read NomicBERT's config.json, with transformers' keys or its own code's: gates, and no biases but the norms'."""
    config.take_over(_NOMIC_KEYS)
    for key, value in _NOMIC_BLOCKS.items():
        config.only(key, (value, None), value)
    encoder = bert.read(config, "nomic_bert", act="silu", vocab_size=30528, max_position_embeddings=2048)
    encoder = replace(encoder, max_positions=max(encoder.max_positions, config.size("n_positions", 1)), pooler=None)
    return _rotated(config, encoder, _NOMIC, theta=1000.0, bias=False, gated=True)


def read_gte(config: Config) -> Encoder:
    """Read GTE's config.json: gates, biases everywhere but in the gates, and perhaps no token types."""
    for key, value in _GTE_BLOCKS.items():
        config.only(key, (value,), value)
    encoder = bert.read(
        config,
        "gte",
        least_types=0,
        positions="rope",
        vocab_size=250048,
        max_position_embeddings=8192,
        type_vocab_size=1,
    )
    return _rotated(config, replace(encoder, pooler=None), _GTE, theta=160_000.0, bias=True, gated=True)


def read_jina_embeddings_v3(config: Config) -> Encoder:
    """Read the config.json of Jina Embeddings v3, whose adapters are merged into its weights, or left out."""
    encoder = bert.read(
        config,
        "jina_embeddings_v3",
        epsilon=1e-5,
        positions="rotary",
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        vocab_size=250002,
        max_position_embeddings=8194,
        type_vocab_size=1,
    )
    return _rotated(config, encoder, _JINA, theta=20_000.0, bias=True, gated=False)


def _rotated(
    config: Config, encoder: Encoder, names: tuple[OtherName, ...], theta: float, bias: bool, gated: bool
) -> Encoder:
    size = config.optional_size("head_dim", encoder.width)
    turns = rotation.read(config, theta, size)
    return replace(
        encoder,
        positions=None,
        head_size=size,
        other_names=names,
        layers=tuple(_layer(f"layers.{index}", turns, bias, gated) for index in range(encoder.num_hidden_layers)),
    )


def _layer(name: str, turns: tuple[float, ...], bias: bool, gated: bool) -> Layer:
    return Layer(
        query=linear(f"{name}.self_attn.q_proj", bias),
        key=linear(f"{name}.self_attn.k_proj", bias),
        value=linear(f"{name}.self_attn.v_proj", bias),
        attention_output=linear(f"{name}.self_attn.o_proj", bias),
        attention_norm=f"{name}.post_attention_layernorm",
        gate=linear(f"{name}.mlp.gate_proj", bias=False) if gated else None,
        up=linear(f"{name}.mlp.up_proj", bias=False) if gated else linear(f"{name}.mlp.fc1"),
        down=linear(f"{name}.mlp.down_proj", bias) if gated else linear(f"{name}.mlp.fc2"),
        norm=f"{name}.post_mlp_layernorm",
        frequencies=turns,
    )
