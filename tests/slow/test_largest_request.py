"""What an encoder holds at the largest request that a client sends it: sparse beside dense.

The network is small, since its head is what could take memory. With NETWORK of BERT-base's size, `-s` prints those
of docs/limits.md.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from client_sdk import Client, LocalServer
from perf.processes import server_processes
from tests.conftest import fill
from tests.support.checkpoints.architectures import write_masked_lm
from tests.support.checkpoints.folders import VOCABULARY, WORDS, write_tokenizer
from tests.support.servers.local_servers import tritonserver_of

TEXTS, TOKENS, WORDS_OF_ALL = 64, 512, 30_522
NETWORK = {
    "model_type": "bert",
    "architectures": ["BertForMaskedLM"],
    "hidden_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 128,
    "vocab_size": WORDS_OF_ALL,
    "max_position_embeddings": TOKENS,
}
WHOLE_MIB = TEXTS * TOKENS * WORDS_OF_ALL * 4 / 2**20
"""Of the logits of all tokens."""


def resident_mib(process: int, what: str) -> float:
    """What a process holds (`VmRSS`), or has held at most (`VmHWM`)."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    assert found
    return int(found[1]) / 1024


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights."""
    folder = tmp_path_factory.mktemp("network")
    write_masked_lm(folder, NETWORK, "bert.")
    write_tokenizer(folder, [*VOCABULARY, *(f"word{n}" for n in range(WORDS_OF_ALL - len(VOCABULARY)))])
    return folder


def held_at_the_largest_request(checkpoint: Path, folder: Path, head: str | None) -> tuple[float, float]:
    """What the encoder holds after one short text, and the most that it holds at the largest request: MiB."""
    fill(folder, checkpoint, "network", **({"head": head} if head else {}))
    words = [word for word in WORDS if not word.startswith("#")]
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(words, TOKENS - 2)) for _ in range(TEXTS)]
    with LocalServer(folder) as server, Client(server.grpc_url, "network", timeout=900) as client:
        encode = client.encode_sparse if head else client.encode
        (encoder,) = (
            pid for pid, name in server_processes(tritonserver_of(folder)).items() if name == "network_encoder"
        )
        assert (client.count_tokens(texts) == TOKENS).all()
        encode(texts[0][:20])
        before = resident_mib(encoder, "VmRSS")
        Path(f"/proc/{encoder}/clear_refs").write_text("5")  # forget the most so far: loading takes more
        encode(texts, batch_size=TEXTS)
        return before, resident_mib(encoder, "VmHWM")


def test_logits_over_a_vocabulary_are_never_there_for_all_tokens(checkpoint: Path, tmp_path: Path):
    dense = held_at_the_largest_request(checkpoint, tmp_path / "dense", None)
    sparse = held_at_the_largest_request(checkpoint, tmp_path / "sparse", "splade")
    print(f"\nMiB, before and then: dense {dense}, sparse {sparse}; all logits are {WHOLE_MIB:,.0f}")
    assert sparse[1] - sparse[0] < dense[1] - dense[0] + WHOLE_MIB / 20
