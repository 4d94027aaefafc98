"""MPNet: RoBERTa's positions and, added to the scores of all layers, T5's relative ones; no token types.

https://arxiv.org/abs/2004.09297
"""

from __future__ import annotations

from dataclasses import replace

from export.network.architectures import bert
from export.network.architectures.config import Config
from export.network.architectures.encoder import Encoder, Layer, RelativeBias, linear

_PADDING_ID = 1
"""Behind which positions are counted, whatever pad_token_id says (MPNetEmbeddings)."""

_BUCKETS = 32
"""As MPNetEncoder.compute_position_bias has them, whatever the config says."""


def read(config: Config) -> Encoder:
    """Read its config.json."""
    config.only("relative_attention_num_buckets", (_BUCKETS,), _BUCKETS)
    encoder = bert.read(config, "mpnet", vocab_size=30527)
    assert encoder.positions is not None
    return replace(
        encoder,
        max_positions=encoder.positions.rows - _PADDING_ID - 1,
        positions=replace(encoder.positions, padding_id=_PADDING_ID),
        type_vocab_size=0,
        types=None,
        layers=tuple(_layer(f"encoder.layer.{index}") for index in range(encoder.num_hidden_layers)),
        relative_bias=RelativeBias("encoder.relative_attention_bias", _BUCKETS),
    )


def _layer(name: str) -> Layer:
    return replace(
        bert.layer(name),
        query=linear(f"{name}.attention.attn.q"),
        key=linear(f"{name}.attention.attn.k"),
        value=linear(f"{name}.attention.attn.v"),
        attention_output=linear(f"{name}.attention.attn.o"),
        attention_norm=f"{name}.attention.LayerNorm",
    )
