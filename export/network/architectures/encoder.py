"""An encoder as data: what its architecture's module (see `architectures`) makes of a config.json.

All of these encoders are stacks of the same parts, and differ in which of them there are, in what order and under which
names of weights. So an architecture says that, and `network` writes the graph of any of them, in both layouts.
Names of weights are those of transformers' model.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Stored:
    """Where the numbers of a weight are.

    Attributes:
        name: Of a tensor of the checkpoint.
        part: Which of `parts` equal parts of it, on its first axis: what is computed together may be stored as one.
        parts: How many there are, one after the other in each of `groups`.
        groups: 1, or the number of heads where the parts alternate head by head.
    """

    name: str
    part: int = 0
    parts: int = 1
    groups: int = 1


@dataclass(frozen=True)
class Linear:
    """A linear layer: x @ weight.T + bias.

    Attributes:
        weight: [out, in].
        bias: [out], or None for none.
    """

    weight: Stored
    bias: Stored | None

    @property
    def name(self) -> str:
        """Of the layer."""
        return self.weight.name.removesuffix(".weight")


def linear(name: str, bias: bool = True) -> Linear:
    """Return the linear layer whose weights are `name`.weight and, with `bias`, `name`.bias."""
    return Linear(Stored(f"{name}.weight"), Stored(f"{name}.bias") if bias else None)


def linear_parts(name: str, count: int, bias: bool = True) -> list[Linear]:
    """Return the `count` linear layers that are stored, one after the other, as `name`."""
    return [
        Linear(Stored(f"{name}.weight", part, count), Stored(f"{name}.bias", part, count) if bias else None)
        for part in range(count)
    ]


@dataclass(frozen=True)
class OtherName:
    r"""How some files name a weight that transformers' model names otherwise.

    Attributes:
        pattern: A regular expression for the beginning of transformers' name, or all of it.
        name: What stands for that in the file, with its groups (`\1`).
        part: Which of `parts` equal parts of the stored tensor it is.
        parts: How many there are.
    """

    pattern: str
    name: str
    part: int = 0
    parts: int = 1


@dataclass(frozen=True)
class Layer:
    """One layer: attention and a feed-forward block, each with a residual connection and a norm.

    Attributes:
        query: Projection to queries, [heads * width, H].
        key: Projection to keys, [key-value heads * width, H].
        value: Projection to values, of the keys' shape.
        attention_output: Projection of what was attended to.
        attention_norm: Name of the norm of the attention block; None for none (of ModernBERT's first layer).
        up: First linear layer of the feed-forward block, [inner, H].
        down: Second linear layer, [H, inner].
        norm: Name of the norm of the feed-forward block.
        gate: Where there is one, what is activated instead of `up`, and multiplied with it.
        frequencies: Where positions are rotations (RoPE), the angle, in radians for one place, of each pair of a
            head's dimensions; empty where they are not.
        window: How many places to either side a token attends to; None for all.
        position_key: Projection of relative positions to keys (DeBERTa's c2p), or None.
        position_query: The same to queries (p2c), or None.
    """

    query: Linear
    key: Linear
    value: Linear
    attention_output: Linear
    attention_norm: str | None
    up: Linear
    down: Linear
    norm: str
    gate: Linear | None = None
    frequencies: tuple[float, ...] = ()
    window: int | None = None
    position_key: Linear | None = None
    position_query: Linear | None = None


@dataclass(frozen=True)
class Classifier:
    """What makes logits of the last layer's states: transformers' `*ForSequenceClassification`.

    Attributes:
        labels: What each logit is for, by name.
        output: The last linear layer, [labels, H].
        pooling: What stands for a text: `first`, its first token, or `mean`, over its tokens.
        dense: A linear layer before that one, [H, H], or None.
        activation: Behind `dense`.
        norm: Name of a norm behind the activation; None for none.
        pools_last: Whether `dense` and what follows are of every token, and the pooling comes behind them.
    """

    labels: tuple[str, ...]
    output: Linear
    pooling: str = "first"
    dense: Linear | None = None
    activation: str = "tanh"
    norm: str | None = None
    pools_last: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Of its layers, which stand beside the encoder in a checkpoint, or in it."""
        return tuple(layer.name for layer in (self.output, self.dense) if layer) + ((self.norm,) if self.norm else ())


@dataclass(frozen=True)
class MaskedLM:
    """What makes logits over the vocabulary of each token's last state: transformers' `*ForMaskedLM`.

    Attributes:
        decoder: The last linear layer, [vocabulary, E].
        dense: A linear layer before it, [E, H], or None for none, where E is H.
        activation: Behind `dense`.
        norm: Name of the norm behind the activation; None for none.
        other_names: Of its weights, in some files.
        untied: Where the decoder's weights are those of others, what it has instead in files that have both, and not
            the same; None where there is no such thing.
    """

    decoder: Linear
    dense: Linear | None
    activation: str
    norm: str | None
    other_names: tuple[OtherName, ...] = ()
    untied: Linear | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Of its layers, which stand beside the encoder in a checkpoint."""
        bias = self.decoder.bias.name.rpartition(".")[0] if self.decoder.bias else ""
        layers = (layer.name if layer else "" for layer in (self.decoder, self.dense, self.untied))
        beside = (*layers, bias, self.norm or "")
        others = [other.name for other in self.other_names]
        return (*filter(None, beside), *others, *(name.rpartition(".")[0] for name in others))


@dataclass(frozen=True)
class Splade:
    """How a text becomes a sparse vector over the vocabulary: sentence-transformers' SpladePooling.

    Attributes:
        masked_lm: What makes the logits.
        pooling: Over the tokens of a text: `max` or `sum`.
        logs: How many times log(1 + x) is taken of what is positive: 1, or 2 for `log1p_relu`.
    """

    masked_lm: MaskedLM
    pooling: str = "max"
    logs: int = 1

    @property
    def names(self) -> tuple[str, ...]:
        """Of the layers that stand beside the encoder in a checkpoint."""
        return self.masked_lm.names


@dataclass(frozen=True)
class Projection:
    """What is done to each token's vector behind the encoder: sentence-transformers' Dense.

    Attributes:
        linear: Its linear layer.
        size_in: Length of the vectors that it takes.
        size: Of those that it gives.
        activation: Behind it, as `parts.Parts.activation` has them.
        adds: Whether its input is added to what it gives.
        residual: The linear layer, without a bias, that its input goes through for that; None where it does not.
    """

    linear: Linear
    size_in: int
    size: int
    activation: str = "identity"
    adds: bool = False
    residual: Linear | None = None


@dataclass(frozen=True)
class TokenVectors:
    """How a token becomes a vector of late interaction (ColBERT): of its state in the last layer.

    Attributes:
        projections: One after the other.
        normalize: Whether vectors then get length 1.
        silent: Whether some tokens attend to others, and nobody to them, so that in layers that see a part of a row
            a token may see none.
    """

    projections: tuple[Projection, ...]
    normalize: bool = True
    silent: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Of the layers that stand beside the encoder in a checkpoint."""
        layers = (layer for part in self.projections for layer in (part.linear, part.residual))
        return tuple(layer.name for layer in layers if layer)


Head = Classifier | Splade | TokenVectors


@dataclass(frozen=True)
class Norm:
    """How the norms of an encoder are computed.

    Attributes:
        epsilon: Added to the variance, or to the mean square.
        kind: `layer`, or `rms`, which has no mean and no bias.
        bias: Whether layer norms have one.
    """

    epsilon: float
    kind: str = "layer"
    bias: bool = True


@dataclass(frozen=True)
class Positions:
    """A table of position embeddings.

    Attributes:
        name: Of the weight.
        rows: Of the table.
        padding_id: Where RoBERTa's rule holds, the token id that is no position: it has the row of its own number, and
            all other tokens of a text are counted from the row behind that. None: a token's row is its place.
    """

    name: str
    rows: int
    padding_id: int | None = None


@dataclass(frozen=True)
class RelativeBias:
    """What the distance of two tokens adds to their score, the same in all layers (T5's, and MPNet's).

    Attributes:
        name: Of the weights [buckets, heads].
        buckets: Of distances, half of them for either side.
    """

    name: str
    buckets: int


@dataclass(frozen=True)
class Disentangled:
    """DeBERTa's attention, which adds products of contents and relative positions to the scores.

    Attributes:
        name: Of the embeddings [2 * span, H] of relative positions.
        span: Distances from -span to span - 1 have an embedding, others that of the nearest.
        buckets: Whether distances are put into buckets (DeBERTa-v2's), of which there are `span` on either side.
        furthest: The distance where buckets end.
        norm: Name of the norm of the embeddings, or None.
    """

    name: str
    span: int
    buckets: bool
    furthest: int
    norm: str | None


@dataclass(frozen=True)
class Convolution:
    """DeBERTa-v2's convolution over the tokens of a row, added to the output of the first layer.

    Attributes:
        name: Of conv and LayerNorm.
        size: Of the kernel, an odd number.
        groups: Of channels.
        activation: Of its output.
    """

    name: str
    size: int
    groups: int
    activation: str


@dataclass(frozen=True)
class Encoder:
    """An encoder's sizes, its parts and the names of its weights.

    Attributes:
        model_type: As config.json names the architecture.
        hidden_size: Length of a token's vector, H.
        num_attention_heads: Heads of each layer.
        intermediate_size: Length of a token's vector inside a feed-forward block.
        vocab_size: Rows of the word embeddings; every token id is below it.
        max_positions: Longest text in tokens, special tokens included.
        type_vocab_size: Rows of the token type embeddings; 0 for none: token types are then without effect.
        hidden_act: Activation of the feed-forward blocks, one of `config.ACTIVATIONS`.
        norm: How norms are computed.
        words: Name of the word embeddings.
        layers: The layers, from the first to the last.
        head_size: Width of a head; 0 for H / heads.
        num_key_value_heads: Heads of keys and values, each shared by several heads; 0 for as many as heads.
        embedding_size: Length of the embeddings; 0 for H.
        positions: The position embeddings; None where there are none, or rotations.
        types: Name of the token type embeddings.
        constant: Name of a table whose first row is added to every embedding, and its rows; None for none.
        embeddings_norm: Name of the norm of the embeddings; None for none.
        projection: From embeddings to H, behind their norm; None for none.
        early_projection: The same before their norm.
        pre_norm: Whether the norms are at the start of each block, not behind its residual connection.
        final_norm: Name of the norm behind the last layer; None for none.
        pooler: The linear layer of BERT's tanh pooler, which a checkpoint may have; None where the architecture has
            none.
        relative_bias: What distances add to scores; None for nothing.
        disentangled: DeBERTa's attention; None for the usual one.
        convolution: DeBERTa-v2's; None for none.
        other_names: Of weights, in files that the architecture's own code wrote.
    """

    model_type: str
    hidden_size: int
    num_attention_heads: int
    intermediate_size: int
    vocab_size: int
    max_positions: int
    type_vocab_size: int
    hidden_act: str
    norm: Norm
    words: str
    layers: tuple[Layer, ...] = field(repr=False)
    head_size: int = 0
    num_key_value_heads: int = 0
    embedding_size: int = 0
    positions: Positions | None = None
    types: str | None = None
    constant: tuple[str, int] | None = None
    embeddings_norm: str | None = None
    projection: Linear | None = None
    early_projection: Linear | None = None
    pre_norm: bool = False
    final_norm: str | None = None
    pooler: Linear | None = None
    relative_bias: RelativeBias | None = None
    disentangled: Disentangled | None = None
    convolution: Convolution | None = None
    other_names: tuple[OtherName, ...] = ()

    @property
    def num_hidden_layers(self) -> int:
        """How many layers there are."""
        return len(self.layers)

    @property
    def width(self) -> int:
        """Of a head."""
        return self.head_size or self.hidden_size // self.num_attention_heads

    @property
    def adjacent(self) -> bool:
        """Whether what a token gives to another depends on how many tokens are between them: rows may have no gap."""
        return bool(
            self.relative_bias
            or self.disentangled
            or self.convolution
            or any(layer.window is not None for layer in self.layers)
        )
