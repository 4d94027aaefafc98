"""XLM-RoBERTa-XL: RoBERTa with its norms at the start of each block, and one at the end.

https://arxiv.org/abs/2105.00572
"""

from __future__ import annotations

from dataclasses import replace

from export.network.architectures import bert
from export.network.architectures.config import Config
from export.network.architectures.encoder import Encoder


def read(config: Config) -> Encoder:
    """Read its config.json."""
    encoder = bert.read(
        config,
        "xlm-roberta-xl",
        epsilon=1e-5,
        hidden_size=2560,
        num_hidden_layers=36,
        num_attention_heads=32,
        intermediate_size=10240,
        vocab_size=250880,
        max_position_embeddings=514,
        type_vocab_size=1,
    )
    names = [f"encoder.layer.{index}" for index in range(encoder.num_hidden_layers)]
    encoder = replace(
        encoder,
        embeddings_norm=None,
        pre_norm=True,
        final_norm="encoder.LayerNorm",
        layers=tuple(
            replace(bert.layer(name), attention_norm=f"{name}.attention.self_attn_layer_norm", norm=f"{name}.LayerNorm")
            for name in names
        ),
    )
    return bert.with_positions_behind_padding(config, encoder)
