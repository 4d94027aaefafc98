"""Search by late interaction (ColBERT): each token of a question looks for the token of an entry that is nearest to it.

A text is a vector for each token, so that a word keeps its own meaning beside those of the others, and what an entry
scores is the sum of what the question's tokens find in it. What each of them found is shown, too. The family is one for
late interaction:

    bert-on-triton export colbert-ir/colbertv2.0 --name colbert    # once, before `make serve`
    python -m examples.colbert_search    # while `make serve` runs in another terminal
    python -m examples.colbert_search "How is padding avoided?"

COLBERT in the environment names a family that is not called colbert.
"""

import os
import sys

import client_sdk

from .faq_search import QUESTIONS, read_faq

BEST = 3


def main() -> None:
    """Print the best entries for each question, and how much of its score each token of the question found."""
    entries = [f"{heading}: {text}" for heading, text in read_faq()]
    questions = sys.argv[1:] or QUESTIONS
    with client_sdk.Client(model=os.environ.get("COLBERT", "colbert")) as client:
        queries = client.encode_multi(questions, input_type="query")  # of each question [T, D]
        documents = client.encode_multi(entries, input_type="document")
    scores = client_sdk.maxsim(queries, documents)  # [questions, entries]
    held = sum(document.nbytes for document in documents) / 1e6
    print(f"{len(entries)} entries are {sum(map(len, documents)):,} vectors, {held:.1f} MB")
    for question, query, row in zip(questions, queries, scores, strict=True):
        print(f"\n{question}")
        for index in (-row).argsort(kind="stable")[:BEST]:
            found = (query @ documents[index].T).max(axis=1)  # by each token of the question
            parts = " ".join(f"{part:.2f}" for part in found[:8])
            print(f"  {row[index]:.3f} = {parts}{' ...' * (len(found) > 8)}: {entries[index][:70]}")


if __name__ == "__main__":
    main()
