"""DistilBERT: BERT without token types and pooler, under names of its own.

https://arxiv.org/abs/1910.01108
"""

from __future__ import annotations

from export.network.architectures.config import Config
from export.network.architectures.encoder import Encoder, Layer, Norm, Positions, linear


def read(config: Config) -> Encoder:
    """Read its config.json. Sinusoidal positions are stored as a table like any other."""
    hidden = config.size("dim", 768)
    longest = config.size("max_position_embeddings", 512)
    return Encoder(
        model_type="distilbert",
        hidden_size=hidden,
        num_attention_heads=config.heads(hidden, 12, "n_heads", "dim"),
        intermediate_size=config.size("hidden_dim", 3072),
        vocab_size=config.size("vocab_size", 30522),
        max_positions=longest,
        type_vocab_size=0,
        hidden_act=config.activation("activation", "gelu"),
        norm=Norm(1e-12),
        words="embeddings.word_embeddings",
        positions=Positions("embeddings.position_embeddings", longest),
        embeddings_norm="embeddings.LayerNorm",
        layers=tuple(_layer(f"transformer.layer.{index}") for index in range(config.size("n_layers", 6))),
    )


def _layer(name: str) -> Layer:
    return Layer(
        query=linear(f"{name}.attention.q_lin"),
        key=linear(f"{name}.attention.k_lin"),
        value=linear(f"{name}.attention.v_lin"),
        attention_output=linear(f"{name}.attention.out_lin"),
        attention_norm=f"{name}.sa_layer_norm",
        up=linear(f"{name}.ffn.lin1"),
        down=linear(f"{name}.ffn.lin2"),
        norm=f"{name}.output_layer_norm",
    )
