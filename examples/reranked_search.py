"""Search in two steps: vectors find fifty candidates, and a cross-encoder puts the best of them first.

A vector is made of a paragraph alone, once, and finds candidates among any number. A cross-encoder reads question and
paragraph together, and so judges better; but it computes each pair anew, and is given the candidates only. Both are
families of one server:

    bert-on-triton export cross-encoder/ms-marco-MiniLM-L6-v2 --name reranker    # once, before `make serve`
    python -m examples.reranked_search    # while `make serve` runs in another terminal
    python -m examples.reranked_search "What happens to blank text?"

RERANKER in the environment names a cross-encoder that is not called reranker.
"""

import os
import sys

import client_sdk

from .faq_search import QUESTIONS, read_faq

CANDIDATES = 50
BEST = 3


def main() -> None:
    """Print the best entries for each question, with their places among the candidates."""
    entries = [f"{heading}: {text}" for heading, text in read_faq()]
    questions = sys.argv[1:] or QUESTIONS
    reranker = client_sdk.Client(model=os.environ.get("RERANKER", "reranker"))
    with client_sdk.Client() as client, reranker:
        similarity = client.encode(questions) @ client.encode(entries).T  # [questions, entries]
        for question, row in zip(questions, similarity, strict=True):
            candidates = [entries[index] for index in row.argsort()[::-1][:CANDIDATES]]
            print(f"\n{question}")
            for best in reranker.rerank(question, candidates, top_k=BEST):
                print(f"  {best.score:.3f}, {best.index + 1}. by vectors: {best.document[:90]}")


if __name__ == "__main__":
    main()
