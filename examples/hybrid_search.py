"""Search by meaning and by words at once: dense and sparse vectors rank alike, and their ranks are joined.

A dense vector finds what means the same in other words, a sparse one (SPLADE) the very word that was asked for, such as
the name of an option. Reciprocal rank fusion needs no weights for that: an entry's score is the sum of 1 / (60 + its
place) in both lists (Cormack and others, 2009). Both are families of one server:

    bert-on-triton export naver/splade-v3 --name splade    # once, before `make serve`; --head splade for a *ForMaskedLM
    python -m examples.hybrid_search    # while `make serve` runs in another terminal
    python -m examples.hybrid_search "What does --head do?"

SPLADE in the environment names a family of sparse vectors that is not called splade.
"""

import os
import sys

import numpy as np

import client_sdk

from .faq_search import QUESTIONS, read_faq

BEST = 3
SMOOTHING = 60  # of ranks


def main() -> None:
    """Print the best entries for each question, with their places by either kind of vector."""
    entries = [f"{heading}: {text}" for heading, text in read_faq()]
    questions = sys.argv[1:] or QUESTIONS
    with client_sdk.Client() as dense, client_sdk.Client(model=os.environ.get("SPLADE", "splade")) as sparse:
        by_meaning = dense.encode(questions) @ dense.encode(entries).T  # [questions, entries]
        words_of_questions = sparse.encode_sparse(questions).to_scipy()
        by_words = (words_of_questions @ sparse.encode_sparse(entries).to_scipy().T).toarray()
    for question, *rows in zip(questions, by_meaning, by_words, strict=True):
        places = np.array([places_of(row) for row in rows])  # [2, entries]
        scores = (1 / (SMOOTHING + places)).sum(axis=0)
        print(f"\n{question}")
        for index in (-scores).argsort(kind="stable")[:BEST]:
            print(f"  {scores[index]:.4f}, {places[0, index]}. and {places[1, index]}.: {entries[index][:90]}")


def places_of(similarity: np.ndarray) -> np.ndarray:
    """The place of each entry, from 1, the most similar first: [entries]."""
    places = np.empty(len(similarity), int)
    places[(-similarity).argsort(kind="stable")] = np.arange(1, len(similarity) + 1)
    return places


if __name__ == "__main__":
    main()
