"""What is refused, by the table of docs/export.md: each of its kinds is exported, and fails with the message there."""

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from export.__main__ import main
from tests.support.checkpoints import late_interaction
from tests.support.checkpoints.architectures import VARIANTS
from tests.support.checkpoints.folders import VOCABULARY, write_bert, write_json, write_modules, write_safetensors
from tests.support.places import ROOT
from tests.support.trained_tokenizers import SIZE, byte_level_bpe, write_trained

POOLING = ("sentence_transformers.models.Pooling", {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True})


def config(**values: Any) -> Callable[[Path], object]:
    """A checkpoint whose config.json has these values too."""
    return lambda folder: write_bert(folder, config=values)


def adapter(folder: Path) -> None:
    write_bert(folder)
    write_json(folder / "adapter_config.json", {"peft_type": "LORA"})


def module(folder: Path) -> None:
    write_bert(folder)
    write_modules(folder, POOLING, ("sentence_transformers.models.WordWeights", {}))


def shorter(folder: Path) -> None:
    write_bert(folder)
    write_modules(folder, POOLING)
    write_json(folder / "config_sentence_transformers.json", {"truncate_dim": 16})


def pickled(folder: Path) -> None:
    write_bert(folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def integers(folder: Path) -> None:
    write_bert(folder, dtype="int8")


def not_finite(folder: Path) -> None:
    weights = write_bert(folder)
    weights["embeddings.LayerNorm.bias"][3] = np.nan
    write_safetensors(folder, weights)


def incomplete(folder: Path) -> None:
    write_bert(folder)
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    write_safetensors(folder, weights)


def another_pickle(folder: Path) -> None:
    write_bert(folder)
    with zipfile.ZipFile(folder / "sparse_linear.pt", "w") as archive:
        archive.writestr("sparse_linear/data.pkl", b"\x80\x02cos\nsystem\n(X\x02\x00\x00\x00lstR.")


def japanese(folder: Path) -> None:
    write_bert(folder, tokenizer_json=False)
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "BertJapaneseTokenizer"})


def other_tokens(folder: Path) -> None:
    write_bert(folder, config={"vocab_size": SIZE}, vocabulary=[*VOCABULARY, *map(str, range(SIZE - len(VOCABULARY)))])
    write_trained(folder, byte_level_bpe(), of_class="PreTrainedTokenizerFast")
    values = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    values["model"]["dropout"] = 0.5  # other tokens each time
    write_json(folder / "tokenizer.json", values)


def late(*modules: tuple[str, dict[str, Any]], of: str = "bert", **loading: Any) -> Callable[[Path], object]:
    """A checkpoint of late interaction, with these modules, or that is loaded so."""
    settings = {**VARIANTS[of], "vocab_size": len(late_interaction.MARKED), "pad_token_id": 0}
    return lambda folder: late_interaction.write(folder, settings, *modules, loading=loading)


MASK, EXPANSION = late_interaction.MASK, {"strategy": "fixed", "length": 20}

KINDS: dict[str, Callable[[Path], object]] = {
    "another architecture": config(model_type="t5"),
    "described by its own code only": config(model_type="new", auto_map={"AutoModel": "modeling.NewModel"}),
    "ALiBi": config(position_embedding_type="alibi"),
    "jina-embeddings-v3 before it was converted": config(model_type="xlm-roberta", position_embedding_type="rotary"),
    "mixture of experts": config(model_type="nomic_bert", num_experts=8),
    "scaled rotations": config(model_type="gte", rope_parameters={"rope_type": "yarn", "factor": 4.0}),
    "rotations of a part of a head": config(model_type="gte", partial_rotary_factor=0.5),
    "another activation": config(hidden_act="mish"),
    "decoder": config(is_decoder=True),
    "quantized network": config(quantization_config={"quant_method": "gptq"}),
    "pruned heads": config(pruned_heads={"0": [1]}),
    "adapter": adapter,
    "another head": config(architectures=["BertForTokenClassification"]),
    "unknown module": module,
    "ColBERT for images": late((MASK, {"keep_only_token_ids": [3]})),
    "another module behind vectors of tokens": late((MASK, {}), ("sentence_transformers.models.Pooling", {})),
    "ColBERT without a mask": late((late_interaction.NORMALIZE, late_interaction.TOKENS)),
    "expansion that DeBERTa does not attend to": late(of="deberta-v2", query_expansion=EXPANSION),
    "expansion beyond the positions": late(query_expansion={**EXPANSION, "length": 67}),
    "expansion on the left": late(query_expansion=EXPANSION, processor_kwargs={"padding_side": "left"}),
    "a length of its own": shorter,
    "pickled weights": pickled,
    "another pickle beside BGE-M3": another_pickle,
    "integer weights": integers,
    "weights that are not finite": not_finite,
    "weights of another network": incomplete,
    "vocabulary of another network": config(vocab_size=100),
    "tokenizer that needs a program": japanese,
    "tokenizer of other tokens than transformers'": other_tokens,
}


def documented() -> dict[str, str]:
    """The message of each kind, in docs/export.md."""
    rows = re.findall(r"(?m)^\| (.+) \| `(.+)` \| (.+) \|$", (ROOT / "docs/export.md").read_text("utf-8"))
    return {kind.partition(" (")[0]: message for kind, message, _ in rows}


def test_every_kind_that_is_documented_is_provoked() -> None:
    assert list(documented()) == list(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_that_is_refused_is_told_what_is_documented(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    KINDS[kind](tmp_path / "checkpoint")
    assert main([str(tmp_path / "checkpoint"), "--repository", str(tmp_path / "repository")]) == 1
    said = capsys.readouterr().err
    message = ".*".join(map(re.escape, documented()[kind].split("…")))
    assert re.fullmatch(rf"error: {re.escape(str(tmp_path))}[^ ]*: {message}.*\n", said), said
    assert not [path for path in (tmp_path / "repository").glob("*") if path.name.startswith("bert")]
