"""Compares an exported network with transformers' model of the same checkpoint, on PyTorch."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer

from export.checkpoint.checkpoint import Checkpoint
from export.checkpoint.google import GoogleWeights
from export.errors import ExportError
from export.network.architectures.encoder import Classifier, Linear, Splade, TokenVectors
from export.network.batches import Arrays
from export.network.layout import REDUCTIONS, TOKEN_VECTORS
from export.network.network import layer_indices
from export.network.runner import Runner
from export.network.weights import Array, Weights
from export.sentences import docstring_sentences

TOLERANCE = 1e-4
"""The largest |difference| to the reference that an FP32 output may have."""

HALF_TOLERANCE = 1e-2
"""The same for an FP16 network, as a share of the output's largest |value| where that is above 1."""

_TEXTS = 64  # that a verification encodes, besides pairs and one text of max_seq_len


@dataclass(frozen=True)
class Difference:
    """How far an output is from the reference.

    Attributes:
        output: Name of the output.
        largest: Maximum of |difference|.
        allowed: What it may be.
        compared: How many numbers were compared.
    """

    output: str
    largest: float
    allowed: float
    compared: int


def require_reference() -> None:
    """Import what `verify` compares with: what is missing should be said before an export, not at its end.

    Raises:
        ExportError: PyTorch or transformers is absent.
    """
    try:
        for package in ("torch", "transformers"):
            import_module(package)
    except ImportError as error:
        raise ExportError(
            f"--verify compares with transformers' model and needs PyTorch ({error}): "
            "pip install torch, or export without --verify"
        ) from error


def compare(
    network: Runner,
    source: Checkpoint,
    layers: tuple[int, ...],
    max_seq_len: int,
    half: bool = False,
    reductions: Sequence[str] = REDUCTIONS,
) -> list[Difference]:
    """Compare every output of a network with transformers' model, loaded from the same checkpoint.

    The texts are real sentences of mixed lengths, pairs of them and one of `max_seq_len` tokens; the network gets
    them together, the reference one by one.

    Raises:
        ExportError: PyTorch or transformers is absent, or a difference is above `TOLERANCE` (`HALF_TOLERANCE` with
            `half`).
    """
    encodings = _encodings(source.tokenizer_json, max_seq_len)
    found = network.run(encodings)
    model, has_types = _model(source), source.encoder.types is not None
    if isinstance(source.head, Classifier):
        expected = {"logits": _logits(model, encodings, has_types)}
    elif isinstance(source.head, TokenVectors):
        expected = _of_tokens(model, encodings, has_types, {TOKEN_VECTORS: source.head}, source.weights)
    elif source.head:
        expected = {"weights": _sparse(model, encodings, has_types, source.head)}
        found = {"weights": _dense(found["indices"], found["weights"], source.encoder.vocab_size)}
    else:
        expected = _reference(model, encodings, layers, reductions, has_types)
        expected |= _of_tokens(model, encodings, has_types, source.beside, source.weights)
    differences = []
    for name in found:
        gap = np.abs(found[name] - expected[name])
        allowed = HALF_TOLERANCE * max(1.0, float(np.abs(expected[name]).max())) if half else TOLERANCE
        differences.append(Difference(name, float(gap.max()), allowed, gap.size))
        if not gap.max() <= allowed:  # so that NaN fails
            raise ExportError(
                f"{name} differs from transformers' model by {gap.max():.2e}, more than {allowed:.0e}; "
                "the repository is as it was"
            )
    return differences


def _encodings(tokenizer_json: str, max_seq_len: int) -> list[Encoding]:
    tokenizer = Tokenizer.from_str(tokenizer_json)
    tokenizer.enable_truncation(max_seq_len)
    sentences = docstring_sentences()
    chosen = random.Random(0).sample(sentences, _TEXTS)
    pairs = list(zip(chosen[:8], chosen[8:16], strict=True))
    encodings: list[Encoding] = tokenizer.encode_batch([*chosen, *pairs, " ".join(sentences[:max_seq_len])])
    return encodings


def _model(source: Checkpoint) -> Any:
    """Load transformers' model, in float32 whatever the checkpoint stores."""
    require_reference()
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification

    weights = source.weights
    # Of config.json, what the network depends on: other keys may make transformers fail, or answer in another form.
    settings = {key: value for key, value in source.settings.items() if key != "model_type"}
    config = AutoConfig.for_model(source.encoder.model_type, **settings)
    if (config.pad_token_id or 0) >= config.vocab_size:  # a default, which only decides which embedding is not trained
        config.pad_token_id = 0
    if isinstance(weights, GoogleWeights):  # a format that transformers no longer reads
        model = AutoModel.from_config(  # type: ignore[no-untyped-call]
            config,
            attn_implementation="eager",
            add_pooling_layer=weights.has("pooler.dense.weight"),
        )
        shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        model.load_state_dict({name: torch.from_numpy(weights.take(name, shape)) for name, shape in shapes.items()})
        return model.eval()
    kind: Any = AutoModel
    if source.head and not isinstance(source.head, TokenVectors):
        kind = AutoModelForSequenceClassification if isinstance(source.head, Classifier) else AutoModelForMaskedLM
    return kind.from_pretrained(
        source.folder,
        config=config,
        attn_implementation="eager",
        dtype="float32",
        use_safetensors=True,
        trust_remote_code=False,
    ).eval()


_REDUCED: dict[str, Callable[[Array], Array]] = {
    "mean": lambda x: x.mean(0),
    "max": lambda x: x.max(0),
    "first": lambda x: x[0],
    "last": lambda x: x[-1],
    "mean_sqrt_len_tokens": lambda x: x.sum(0) / np.float32(len(x) ** 0.5),
    "weightedmean": lambda x: np.average(x, axis=0, weights=np.arange(1, len(x) + 1)).astype(np.float32),
}


def _reference(
    model: Any, encodings: list[Encoding], layers: tuple[int, ...], reductions: Sequence[str], has_types: bool
) -> Arrays:
    tokens, pooled, pooler_output = [], [], []
    for result in _results(model, encodings, has_types):
        states = result.hidden_states[1:]  # 0: the embeddings
        wanted = [states[index][0].numpy() for index in layer_indices(layers, len(states))]
        x = np.concatenate(wanted, axis=-1)
        tokens.append(x)
        pooled.append(np.stack([_REDUCED[name](x) for name in reductions]))
        if getattr(result, "pooler_output", None) is not None:
            pooler_output.append(result.pooler_output[0].numpy())
    arrays = {"token_embeddings": np.concatenate(tokens), "pooled": np.stack(pooled)}
    return arrays | ({"pooler_output": np.stack(pooler_output)} if pooler_output else {})


def _logits(model: Any, encodings: list[Encoding], has_types: bool) -> Array:
    return np.stack([result.logits[0].numpy() for result in _results(model, encodings, has_types)])


def _sparse(model: Any, encodings: list[Encoding], has_types: bool, splade: Splade) -> Array:
    vectors = []
    for result in _results(model, encodings, has_types):
        x = np.maximum(result.logits[0].numpy(), 0)
        for _ in range(splade.logs):
            x = np.log1p(x)
        vectors.append(x.max(axis=0) if splade.pooling == "max" else x.sum(axis=0))
    return np.stack(vectors)


_TORCH = ("gelu", "leaky_relu", "relu", "sigmoid", "silu")
"""Activations that torch.nn.functional has under the same names."""


def _of_tokens(
    model: Any, encodings: list[Encoding], has_types: bool, heads: Mapping[str, TokenVectors], weights: Weights
) -> Arrays:
    """As sentence-transformers' Dense and Normalize make them, one text after another: [tokens, D], by name."""
    from torch import from_numpy, inference_mode, nn, tanh

    def linear(layer: Linear, x: Any, shape: tuple[int, int]) -> Any:
        bias = from_numpy(weights.take(layer.bias.name, shape[:1])) if layer.bias else None
        return nn.functional.linear(x, from_numpy(weights.take(layer.weight.name, shape)), bias)

    activations = {name: getattr(nn.functional, name) for name in _TORCH} | {"tanh": tanh, "identity": lambda x: x}

    def vectors(head: TokenVectors, x: Any) -> Array:
        for part in head.projections:
            shape = part.size, part.size_in
            y = activations[part.activation](linear(part.linear, x, shape))
            if part.adds:
                y = y + (linear(part.residual, x, shape) if part.residual else x)
            x = y
        made: Array = (nn.functional.normalize(x, dim=-1) if head.normalize else x).numpy()
        return made

    found: dict[str, list[Array]] = {name: [] for name in heads}
    for result in _results(model, encodings, has_types) if heads else ():
        with inference_mode():
            for name, head in heads.items():
                found[name].append(vectors(head, result.last_hidden_state[0]))
    return {name: np.concatenate(arrays) for name, arrays in found.items()}


def _dense(indices: npt.NDArray[np.int32], weights: Array, size: int) -> Array:
    """[N, K] each, padded with -1 and 0, to [N, size]."""
    vectors = np.zeros((len(indices), size + 1), np.float32)  # -1 is the last
    np.put_along_axis(vectors, indices, weights, axis=1)
    return vectors[:, :size]


def _results(model: Any, encodings: list[Encoding], has_types: bool) -> Iterator[Any]:
    """What the model gives for each text alone."""
    import torch

    for encoding in encodings:
        types = {"token_type_ids": torch.tensor([encoding.type_ids])} if has_types else {}
        with torch.inference_mode():
            yield model(input_ids=torch.tensor([encoding.ids]), output_hidden_states=True, **types)
