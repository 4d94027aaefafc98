"""A classifier on the server: a BertForSequenceClassification is exported with its head, and asked for labels.

It is trained here, on docstrings of three packages, so that nothing is downloaded. With a checkpoint of your own, begin
at export.

    python -m examples.classification    # while `make serve` runs in another terminal
    python -m examples.classification "Send a message to a mail server."
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.neural_network import MLPClassifier

import client_sdk

from .docstrings import labelled_paragraphs
from .fine_tuned import PACKAGES, save_checkpoint

TEXTS = [
    "Wait until a task of the event loop is done.",
    "Add an attachment to the message.",
    "Fail the test unless both are equal.",
]


def main() -> None:
    """Train, export, serve, classify docstrings of files that were not trained on, and then texts."""
    texts, labels, files = labelled_paragraphs(PACKAGES)
    learn, held_out = next(StratifiedGroupKFold(2, shuffle=True, random_state=0).split(texts, labels, groups=files))
    states = client_sdk.encode(texts[learn], pooling="cls", normalize=False)  # [N, H], what the pooler reads
    trained = MLPClassifier(384, activation="tanh", alpha=1, tol=1e-3, random_state=0).fit(states, labels[learn])

    with tempfile.TemporaryDirectory() as checkpoint, tempfile.TemporaryDirectory() as repository:
        save_checkpoint(Path(checkpoint), trained.coefs_, trained.intercepts_)
        config = Path(checkpoint, "config.json")
        config.write_text(json.dumps({**json.loads(config.read_text()), "id2label": dict(enumerate(PACKAGES))}))
        options = ["--name", "package", "--repository", repository]
        subprocess.run([sys.executable, "-m", "export", checkpoint, *options], check=True)
        with client_sdk.LocalServer(repository) as server, client_sdk.Client(server.grpc_url, "package") as client:
            best = [labels[0].name for labels in client.classify(texts[held_out], top_k=1)]
            right = np.mean([name == PACKAGES[label] for name, label in zip(best, labels[held_out], strict=True)])
            print(f"{len(held_out)} docstrings held out: {right:.1%} right")
            given = sys.argv[1:] or TEXTS
            for text, found in zip(given, client.classify(given, top_k=2), strict=True):
                print(f"  {', '.join(f'{label.name} {label.score:.2f}' for label in found)}: {text}")


if __name__ == "__main__":
    main()
