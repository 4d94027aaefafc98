"""ALBERT: BERT whose layers share their weights, with shorter embeddings.

https://arxiv.org/abs/1909.11942
"""

from __future__ import annotations

from dataclasses import replace

from export.network.architectures import bert
from export.network.architectures.config import Config
from export.network.architectures.encoder import Encoder, Layer, linear


def read(config: Config) -> Encoder:
    """Read its config.json."""
    config.only("inner_group_num", (1,), 1)
    encoder = bert.read(
        config,
        "albert",
        act="gelu_new",
        hidden_size=4096,
        num_attention_heads=64,
        intermediate_size=16384,
        vocab_size=30000,
    )
    count, groups = encoder.num_hidden_layers, config.size("num_hidden_groups", 1)
    shared = [_layer(f"encoder.albert_layer_groups.{group}.albert_layers.0") for group in range(groups)]
    return replace(
        encoder,
        embedding_size=config.size("embedding_size", 128),
        projection=linear("encoder.embedding_hidden_mapping_in"),
        layers=tuple(shared[int(index / (count / groups))] for index in range(count)),  # as AlbertTransformer has it
        pooler=linear("pooler"),
    )


def _layer(name: str) -> Layer:
    return Layer(
        query=linear(f"{name}.attention.query"),
        key=linear(f"{name}.attention.key"),
        value=linear(f"{name}.attention.value"),
        attention_output=linear(f"{name}.attention.dense"),
        attention_norm=f"{name}.attention.LayerNorm",
        up=linear(f"{name}.ffn"),
        down=linear(f"{name}.ffn_output"),
        norm=f"{name}.full_layer_layer_norm",
    )
