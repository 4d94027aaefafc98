"""Checks an exported network: that it runs, and that it computes what transformers' BertModel computes."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
from tokenizers import Encoding, Tokenizer

from export.checkpoint.checkpoint import Checkpoint
from export.checkpoint.google import GoogleWeights
from export.errors import ExportError
from export.network.batches import Arrays, laid_end_to_end, padded, without_padding
from export.network.layout import INPUTS, shape_of
from export.network.network import layer_indices
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


class Runner(Protocol):
    """Something that runs an exported network.

    Attributes:
        outputs: Names of the network's outputs.
    """

    outputs: list[str]

    def run(self, encodings: Iterable[Encoding]) -> Arrays:
        """Run texts: token_embeddings [sum of their tokens, D], pooled [texts, 4, D], and so on."""


class Network:
    """An exported network of either layout in ONNX Runtime, on CPU; a `Runner`."""

    def __init__(self, path: Path) -> None:
        """Load `path`.

        Raises:
            ExportError: ONNX Runtime refuses it.
        """
        try:
            self._session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own classes share no base but this
            raise ExportError(f"ONNX Runtime cannot load the network: {error}") from error
        self.outputs = [output.name for output in self._session.get_outputs()]
        self._is_padded = all(tensor.name != shape_of(INPUTS[0]) for tensor in self._session.get_inputs())

    def run(self, encodings: Iterable[Encoding]) -> Arrays:
        """Run texts in one batch."""
        encodings = list(encodings)
        feed = padded(encodings) if self._is_padded else laid_end_to_end(encodings)
        outputs = dict(zip(self.outputs, self._session.run(None, feed), strict=True))
        return without_padding(outputs, encodings) if self._is_padded else outputs


def runs(network: Runner, tokenizer_json: str, token_size: int, max_seq_len: int) -> None:
    """Run a text, cut at `max_seq_len` tokens, through a network that has been written.

    Raises:
        ExportError: an output has another shape than [T, D] and so on, or is not finite.
    """
    tokenizer = Tokenizer.from_str(tokenizer_json)
    tokenizer.enable_truncation(max_seq_len)
    encoding = tokenizer.encode("First do it, then do it right.")
    shapes = {"token_embeddings": (len(encoding), token_size), "pooled": (1, 4, token_size)}
    for name, array in network.run([encoding]).items():
        if array.shape != shapes.get(name, array.shape):
            raise ExportError(f"the network's {name} has shape {array.shape}, expected {shapes[name]}")
        if not np.isfinite(array).all():
            raise ExportError(
                f"the network's {name} is not finite for an ordinary text; are the weights damaged, or too large for "
                "FP16 where that was asked for?"
            )


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
            f"--verify compares with transformers' BertModel and needs PyTorch ({error}): "
            "pip install torch, or export without --verify"
        ) from error


def verify(
    network: Runner, source: Checkpoint, layers: tuple[int, ...], max_seq_len: int, half: bool = False
) -> list[Difference]:
    """Compare every output of a network with transformers' BertModel, loaded from the same checkpoint.

    The texts are real sentences of mixed lengths, pairs of them and one of `max_seq_len` tokens; the network gets
    them together, the reference one by one.

    Raises:
        ExportError: PyTorch or transformers is absent, or a difference is above `TOLERANCE` (`HALF_TOLERANCE` with
            `half`).
    """
    encodings = _encodings(source.tokenizer_json, max_seq_len)
    found = network.run(encodings)
    expected = _reference(_bert(source), encodings, layers)
    differences = []
    for name in network.outputs:
        gap = np.abs(found[name] - expected[name])
        allowed = HALF_TOLERANCE * max(1.0, float(np.abs(expected[name]).max())) if half else TOLERANCE
        differences.append(Difference(name, float(gap.max()), allowed, gap.size))
        if not gap.max() <= allowed:  # so that NaN fails
            raise ExportError(
                f"{name} differs from transformers' BertModel by {gap.max():.2e}, more than {allowed:.0e}; "
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


def _bert(source: Checkpoint) -> Any:
    """Load transformers' BertModel, in float32 whatever the checkpoint stores."""
    require_reference()
    import torch
    from transformers import AutoModel, BertConfig

    weights = source.weights
    # Of config.json, what BertModel reads: other keys may make transformers fail, or answer in another form.
    config = BertConfig(**vars(source.config))
    if isinstance(weights, GoogleWeights):  # a format that transformers no longer reads
        bert = AutoModel.from_config(  # type: ignore[no-untyped-call]
            config,
            attn_implementation="eager",
            add_pooling_layer=weights.has("pooler.dense.weight"),
        )
        shapes = {name: tuple(value.shape) for name, value in bert.state_dict().items()}
        bert.load_state_dict({name: torch.from_numpy(weights.take(name, shape)) for name, shape in shapes.items()})
        return bert.eval()
    return AutoModel.from_pretrained(
        source.folder,
        config=config,
        attn_implementation="eager",
        dtype="float32",
        use_safetensors=True,
        trust_remote_code=False,
    ).eval()


def _reference(bert: Any, encodings: list[Encoding], layers: tuple[int, ...]) -> Arrays:
    import torch

    tokens, pooled, pooler_output = [], [], []
    for encoding in encodings:
        with torch.inference_mode():
            result = bert(
                input_ids=torch.tensor([encoding.ids]),
                token_type_ids=torch.tensor([encoding.type_ids]),
                output_hidden_states=True,
            )
        states = result.hidden_states[1:]  # 0: the embeddings
        wanted = [states[index][0].numpy() for index in layer_indices(layers, len(states))]
        x = np.concatenate(wanted, axis=-1)
        tokens.append(x)
        pooled.append(np.stack([x.mean(0), x.max(0), x[0], x[-1]]))
        if result.pooler_output is not None:
            pooler_output.append(result.pooler_output[0].numpy())
    arrays = {"token_embeddings": np.concatenate(tokens), "pooled": np.stack(pooled)}
    return arrays | ({"pooler_output": np.stack(pooler_output)} if pooler_output else {})
