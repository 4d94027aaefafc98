"""Small BERT checkpoints on disk, written with numpy and safetensors."""

import json
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file
from tokenizers.implementations import BertWordPieceTokenizer

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = ("the", "quick", "brown", "fox", "jump", "##ed", "over", "lazy", "dog", "hello", "world", "cafe")
CHINESE = ("中", "文", "字", "國")
_LETTERS = (*string.ascii_letters, *string.digits, *string.punctuation, "é", "ß")
VOCABULARY = (*SPECIAL_TOKENS, *_LETTERS, *(f"##{letter}" for letter in _LETTERS), *WORDS, *CHINESE)

_DTYPES = {
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "float32": np.float32,
    "float64": np.float64,
    "int8": np.int8,
}


def write_bert(
    folder: Path,
    *,
    hidden: int = 32,
    layers: int = 3,
    heads: int = 4,
    intermediate: int = 64,
    positions: int = 64,
    types: int = 2,
    vocabulary: Sequence[str] = VOCABULARY,
    act: str = "gelu",
    pooler: bool = True,
    prefix: str = "",
    gamma_beta: bool = False,
    dtype: str = "float32",
    shards: int = 1,
    extra: Mapping[str, np.ndarray] | None = None,
    lower_case: bool = True,
    tokenizer_json: bool = True,
    config: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Write a checkpoint with random weights into `folder`, as transformers' `save_pretrained` does.

    `extra` are tensors beside the network's (a head, say), stored under their own names; `config` overrides
    keys of config.json; `tokenizer_json` false leaves vocab.txt and tokenizer_config.json as the tokenizer.

    Returns the network's weights by name without prefix: float32, rounded to `dtype`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    values = {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": intermediate,
        "vocab_size": len(vocabulary),
        "max_position_embeddings": positions,
        "type_vocab_size": types,
        "hidden_act": act,
        "layer_norm_eps": 1e-12,
    }
    write_json(folder / "config.json", {**values, **(config or {})})
    write_tokenizer(folder, vocabulary, lower_case=lower_case, tokenizer_json=tokenizer_json)

    shapes = _shapes(hidden, layers, intermediate, len(vocabulary), positions, types, pooler)
    rng = np.random.default_rng(seed)
    stored = {name: _random(rng, name, shape).astype(_DTYPES[dtype]) for name, shape in shapes.items()}
    tensors = {prefix + _old_name(name) if gamma_beta else prefix + name: value for name, value in stored.items()}
    write_safetensors(folder, {**tensors, **(extra or {})}, shards=shards)
    return {name: value.astype(np.float32) for name, value in stored.items()}


def write_tokenizer(
    folder: Path,
    vocabulary: Sequence[str] = VOCABULARY,
    *,
    lower_case: bool = True,
    tokenizer_json: bool = True,
) -> None:
    """Write a BERT tokenizer: tokenizer.json or vocab.txt, and tokenizer_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "do_lower_case": lower_case})
    if tokenizer_json:
        tokenizer = BertWordPieceTokenizer({token: i for i, token in enumerate(vocabulary)}, lowercase=lower_case)
        tokenizer.save(str(folder / "tokenizer.json"))
    else:
        (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary), encoding="utf-8")


def write_safetensors(folder: Path, tensors: Mapping[str, np.ndarray], *, shards: int = 1) -> None:
    """Write tensors as model.safetensors, or spread over several files with an index."""
    if shards == 1:
        save_file(dict(tensors), folder / "model.safetensors")
        return
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        names = sorted(tensors)[shard::shards]
        save_file({name: tensors[name] for name in names}, folder / file)
        weight_map.update(dict.fromkeys(names, file))
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})


def write_modules(
    folder: Path,
    *modules: tuple[str, Mapping[str, Any] | None],
    settings: Mapping[str, Any] | None = None,
    first: str = "sentence_transformers.models.Transformer",
) -> None:
    """Write the files that sentence-transformers adds: modules.json and each module's config.json.

    `modules` are the class and the config of each module behind the Transformer, `first`, which is always there;
    `settings` is what sentence_bert_config.json holds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    entries = [{"idx": 0, "name": "0", "path": "", "type": first}]
    for index, (kind, config) in enumerate(modules, start=1):
        path = f"{index}_{kind.rpartition('.')[2]}"
        entries.append({"idx": index, "name": str(index), "path": path, "type": kind})
        (folder / path).mkdir(exist_ok=True)
        if config is not None:
            write_json(folder / path / "config.json", config)
    write_json(folder / "modules.json", entries)
    if settings is not None:
        write_json(folder / "sentence_bert_config.json", settings)


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON."""
    path.write_text(json.dumps(value), encoding="utf-8")


def _shapes(
    hidden: int, layers: int, intermediate: int, vocab: int, positions: int, types: int, pooler: bool
) -> dict[str, tuple[int, ...]]:
    def linear(name: str, rows: int, columns: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}

    def norm(name: str) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": (hidden,), f"{name}.bias": (hidden,)}

    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (vocab, hidden),
        "embeddings.position_embeddings.weight": (positions, hidden),
        "embeddings.token_type_embeddings.weight": (types, hidden),
        **norm("embeddings.LayerNorm"),
    }
    for layer in (f"encoder.layer.{index}" for index in range(layers)):
        for part in ("query", "key", "value"):
            shapes |= linear(f"{layer}.attention.self.{part}", hidden, hidden)
        shapes |= linear(f"{layer}.attention.output.dense", hidden, hidden)
        shapes |= norm(f"{layer}.attention.output.LayerNorm")
        shapes |= linear(f"{layer}.intermediate.dense", intermediate, hidden)
        shapes |= linear(f"{layer}.output.dense", hidden, intermediate)
        shapes |= norm(f"{layer}.output.LayerNorm")
    if pooler:
        shapes |= linear("pooler.dense", hidden, hidden)
    return shapes


def _random(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    # Wide enough that every part of the network shows in its output; norms stay near the identity.
    values = 0.2 * rng.standard_normal(shape)
    return values + 1 if name.endswith("LayerNorm.weight") else values


def _old_name(name: str) -> str:
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
