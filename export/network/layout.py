"""What the two forms of the network have in common, and the seam between them: how the tokens of a batch are laid out.

`network` writes the layers of an encoder once. A `Layout` declares the inputs and outputs, and says what stands where:

| | `padding_free` | `padded` |
|---|---|---|
| inputs | [K], all rows end to end, and each row's length in each (`shape_of`) | [N, S] |
| tokens inside | [T, H], no padding | [N, S, H] |
| for | ONNX Runtime | TensorRT, which wants shapes that do not depend on the data |

Both compute the same numbers. Where a row has no token with pooling_mask 1, its tokens attend to all of them, as under
an additive mask (bert-as-service's -10000). A row that is out of range (`limits`), or has a gap between its tokens
where distances count (`Encoder.adjacent`), has NaN in all its outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from export.network.architectures.encoder import Encoder
from export.network.weights import Array

INPUTS = ("input_ids", "attention_mask", "token_type_ids", "pooling_mask")
REDUCTIONS = ("mean", "max", "first", "last")
"""What `pooled` has in every network."""

MORE_REDUCTIONS = ("mean_sqrt_len_tokens", "weightedmean")
"""What it has behind them where they are asked for, both over pooling_mask, as sentence-transformers has them: the sum
over the root of how many tokens there are, and the mean weighted by a token's place in its row, from 1 on."""

TOKEN_EMBEDDINGS, TOKEN_VECTORS, TOKEN_WEIGHTS = "token_embeddings", "token_vectors", "token_weights"
OF_TOKENS = (TOKEN_EMBEDDINGS, TOKEN_VECTORS, TOKEN_WEIGHTS)
"""Outputs that have something for each token: its states, its vector of late interaction, and its weight as a word."""

# Below any activation, and finite: softmax gives it exactly 0 and a row of nothing else stays free of NaN.
LOWEST = -1e30

FLOAT, INT32, INT64, BOOL = 1, 6, 7, 9
"""ONNX element types, as Cast takes them."""


def shape_of(name: str) -> str:
    """The input of the padding-free network that holds each row's length in the input `name`."""
    return f"{name}_shape"


PROMPT = 2
"""What pooling_mask holds at the tokens of a prompt, in networks that tell them apart (`prompts_apart`): they are
attended to, and neither pooled nor the first of `pooled`."""


def limits(encoder: Encoder, prompts_apart: bool = False) -> dict[str, int]:
    """What the values of each input are below; none is below 0."""
    types = encoder.type_vocab_size or 2  # without effect, and tokenizers tell the two texts of a pair apart
    pooling = PROMPT + 1 if prompts_apart else 2
    return dict(zip(INPUTS, (encoder.vocab_size, 2, types, pooling), strict=True))


class Layout(Protocol):
    """Writes what depends on where tokens stand; each method takes and returns names of values in the graph.

    Attributes:
        rows: Name of the dimension that counts rows.
        longest: INT64 [1], how many places padded rows have.
        attended: FP32 [rows, 1, 1, longest]: 0 for tokens attended to, `LOWEST` for others.
        spoiled: FP32 [rows, 1]: NaN for a row whose inputs are wrong, 0 for others.
        in_blocks: Whether attention of long rows is computed for a part of their tokens at a time.
    """

    rows: str
    longest: str
    attended: str
    spoiled: str
    in_blocks: bool

    def read(self, name: str) -> str:
        """An input's value of each token."""

    def by_place(self, table: str) -> str:
        """The row of `table` for the place of each token, or what broadcasts to them."""

    def behind_padding(self, table: str, padding_id: int) -> str:
        """The row of `table` of each token, counted as `encoder.Positions` says of RoBERTa."""

    def product(self, name: str, x: str, weight: Array, bias: Array | None) -> str:
        """`x` [..., in] by the linear layer `name` of `weight` [out, in] and `bias` [out]: [..., out]."""

    def to_rows(self, x: str) -> str:
        """Every token's vector, C long, in padded rows: [rows, longest, C]."""

    def from_rows(self, x: str, size: int) -> str:
        """[rows, longest, heads, width] as tokens again, `size` = heads * width long."""

    def inside(self) -> str:
        """[rows, longest, 1], in the network's precision: 1 for a token, 0 elsewhere."""

    def first(self, x: str, size: int) -> str:
        """Each row's first token out of `x`, `size` long: [rows, size], zero for a row of none."""

    def mean(self, x: str, size: int) -> str:
        """Each row's mean over pooling_mask of FP32 `x`, `size` long: [rows, size], zero over nothing."""

    def sum(self, x: str, size: int) -> str:
        """The same sum."""

    def highest(self, x: str, size: int) -> str:
        """The same maximum, `LOWEST` over nothing."""

    def write_tokens(self, name: str, features: str, size: int) -> None:
        """Declare an output of `OF_TOKENS` of FP32 `features`, `size` long."""

    def write(self, features: str, size: int, reductions: Sequence[str] = REDUCTIONS) -> None:
        """Declare `token_embeddings`, and `pooled` with these reductions, of FP32 `features`, `size` long."""
