"""What an export decides about a model family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from export import poolings
from export.checkpoint.late_interaction import LateInteraction
from export.network.layout import INPUTS, REDUCTIONS, TOKEN_EMBEDDINGS, TOKEN_VECTORS, TOKEN_WEIGHTS
from export.tensorrt.profiles import Profile

TEMPLATE_NAME = "bert"
STEPS = ("_tokenizer", "_encoder", "_pooling")
ROLES = ("", "_tokens", *STEPS)
"""Of a family of dense vectors alone."""

ANSWERING = ("", "_sparse", "_multi")
"""Of the ensembles through all the steps, one for each kind of answers: vectors or scores, sparse vectors, and vectors
of tokens for late interaction."""

ALL_ROLES = ("", "_tokens", *ANSWERING[1:], *STEPS)

BACKENDS = ("python", "onnxruntime", "tensorrt")
PRECISIONS = ("fp32", "fp16", "int8")

ACTIVATIONS = ("none", "sigmoid", "softmax")
"""What may make scores of a classifier's logits."""

LEAST_COSINE = 0.95
"""To FP32, of the vectors of an INT8 network."""

_TOKENS = {"input_ids": [-1], "attention_mask": [-1]}
"""What the last step reads beside what the network gives of tokens: which tokens these are."""


@dataclass(frozen=True)
class Answer:
    """What one of a family's ensembles through all the steps gives: shapes of a row, -1 for its tokens or words.

    Attributes:
        reads: What the last step makes it of, by name.
        gives: What comes of that, by name; TOKEN_COUNT comes beside.
    """

    reads: dict[str, list[int]]
    gives: dict[str, list[int]]


@dataclass(frozen=True)
class Family:
    """The settings of a model family.

    Attributes:
        name: Of the ensemble; the other models' names begin with it.
        hidden_size: Length of one layer's token vector, H.
        layers: The encoder layers in a token vector, by Python index; its length is D = H * len(layers).
        pooler: Whether the network has `pooler_output`.
        max_seq_len: Longest text in tokens, special ones included.
        pooling: Of a request that names none; empty in a family without dense vectors.
        normalize: Whether vectors get length 1 where a request does not say.
        prompts: Texts put before a text, by the name that a request gives.
        default_prompt_name: The prompt of a request that names none; None for no prompt.
        reductions: What the network's `pooled` has, by name.
        stages: What is done to a vector behind the pooling, see `sentence_transformers.Stage.kind`.
        stages_size: Length of the vectors that they give, or None for that of the pooling.
        include_prompt: Whether the tokens of a prompt are pooled.
        similarity: How vectors are meant to be compared; the steps do not read it, but clients.
        backend: Of the encoder, one of `BACKENDS`.
        max_batch_size: Texts in a request or an execution.
        instances: Of the encoder; on GPUs, on each of them.
        threads: Of an encoder instance; 0 for as many as there are cores.
        cache_bytes: Of an encoder instance, room for what it has computed; 0: it keeps nothing.
        gpus: That the encoder runs on, by number; none named for all that the server sees; None for the CPU.
        profiles: Of the TensorRT engine, by index.
        pad_to_multiple_of: To what the tokenizer rounds a request's length S up, so that equal shapes share a batch;
            never above max_seq_len.
        truncation_side: Where a text that is too long loses tokens, `right` or `left`.
        split_special_tokens: Whether special tokens that are written in a text are cut up where a request does not say.
        labels: Of a classifier, what each of its scores is for; none for other families. What is said of layers and
            poolings is for families of dense vectors alone.
        activation: Of a classifier, what makes scores of logits where a request does not say; see `ACTIVATIONS`.
        splade: Where sparse vectors are made of logits, how, such as `max relu`; empty for others.
        lexical: Where they are made of weights of a text's own tokens, those that do not count; None for others.
        vocab_size: Of sparse vectors, the length.
        max_active_dims: How many words of a sparse vector are kept where a request does not say; None for all.
        multi: Where there are vectors for late interaction, what is done with texts; None for others.
    """

    name: str
    hidden_size: int
    max_seq_len: int
    layers: tuple[int, ...] = ()
    pooler: bool = False
    pooling: str = ""
    normalize: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None
    reductions: tuple[str, ...] = REDUCTIONS
    stages: tuple[str, ...] = ()
    stages_size: int | None = None
    include_prompt: bool = True
    similarity: str = "cosine"
    backend: str = "python"
    max_batch_size: int = 64
    instances: int = 1
    threads: int = 0
    cache_bytes: int = 0
    gpus: tuple[int, ...] | None = None
    profiles: tuple[Profile, ...] = ()
    pad_to_multiple_of: int = 1
    truncation_side: str = "right"
    split_special_tokens: bool = False
    labels: tuple[str, ...] = ()
    activation: str = ""
    splade: str = ""
    lexical: tuple[int, ...] | None = None
    vocab_size: int = 0
    max_active_dims: int | None = None
    multi: LateInteraction | None = None

    @property
    def in_slices(self) -> bool:
        """Whether the network itself cuts a batch into slices, since nothing before it does; see `network.sliced`."""
        return self.backend == "onnxruntime" and self.gpus is None

    @property
    def is_dense(self) -> bool:
        """Whether it gives a dense vector of a text."""
        return bool(self.pooling)

    @property
    def token_size(self) -> int:
        """Length of a token vector, D."""
        return self.hidden_size * len(self.layers)

    @property
    def dimension(self) -> int:
        """Length of the vector of a text, with the family's own pooling."""
        return self.stages_size or pooled_size(self.pooling, self.hidden_size, len(self.layers))

    @property
    def answers(self) -> dict[str, Answer]:
        """What its ensembles through all the steps give, by the role of each."""
        dense, sparse, multi = ANSWERING
        words = {"INDICES": [-1], "WEIGHTS": [-1]}
        found = {}
        if self.is_dense:
            pooled = {"pooled": [len(self.reductions), self.token_size]}
            pooler = {"pooler_output": [self.hidden_size]} if self.pooler else {}
            found[dense] = Answer(pooled | pooler, {"EMBEDDING": [-1]})
        if self.labels:
            scores = [len(self.labels)]
            found[dense] = Answer({"logits": scores}, {"SCORES": scores})
        if self.splade:
            found[sparse] = Answer({"indices": [-1], "weights": [-1]}, words)
        if self.lexical is not None:
            found[sparse] = Answer({TOKEN_WEIGHTS: [-1, 1], **_TOKENS}, words)
        if self.multi:
            vectors = [-1, self.multi.dimension]
            found[multi] = Answer(
                {TOKEN_VECTORS: vectors, **_TOKENS}, {"TOKEN_EMBEDDING": vectors, "ATTENTION_MASK": [-1]}
            )
        return found

    @property
    def outputs(self) -> dict[str, list[int]]:
        """What the network puts out for each row: shapes by name, -1 for its tokens, or for its words of a vector."""
        tokens = {TOKEN_EMBEDDINGS: [-1, self.token_size]} if self.is_dense else {}
        return tokens | {name: dims for name, dims in self.read.items() if name not in INPUTS}

    @property
    def read(self) -> dict[str, list[int]]:
        """What the last step reads for any of its answers: shapes of a row, by name."""
        return {name: dims for answer in self.answers.values() for name, dims in answer.reads.items()}

    def lengths(self) -> list[int]:
        """Every S that the tokenizer can make, in tokens."""
        step = self.pad_to_multiple_of
        return [*range(step, self.max_seq_len, step), self.max_seq_len]

    def models(self) -> dict[str, str]:
        """The template's model of each role, by the name that it gets in this family."""
        template = dict.fromkeys(ANSWERING, "")
        return {self.name + role: TEMPLATE_NAME + template.get(role, role) for role in self.roles}

    @property
    def ensemble(self) -> str:
        """The name of the model that takes texts through all the steps, or of the first of these."""
        return self.name + self.roles[0]

    @property
    def roles(self) -> tuple[str, ...]:
        """Which models there are, the ensembles through all the steps first."""
        return (*self.answers, *["_tokens"] * self.is_dense, *STEPS)


def pooled_size(pooling: str, hidden_size: int, layers: int) -> int:
    """Length of the vector that `pooling` makes of a network's outputs of so many layers."""
    if pooling == poolings.POOLER:
        return hidden_size
    return hidden_size * layers * len(poolings.parts(pooling))
