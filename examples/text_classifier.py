"""A text classifier in three lines of scikit-learn, on sentence vectors: is a docstring asyncio's or email's?

Files are split in halves, so that no docstring is judged by a classifier that saw another one of its file. The same
classifier on word counts shows what the vectors add: they know words that the few labelled texts do not contain.

    python -m examples.text_classifier    # while `make serve` runs in another terminal
"""

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

import client_sdk

from .docstrings import labelled_paragraphs

PACKAGES = ["asyncio", "email"]
LABELLED = [10, 40, 160]  # texts to learn from


def main() -> None:
    """Print the accuracy on the held-out half, and the surest mistakes."""
    texts, labels, files = labelled_paragraphs(PACKAGES)
    with client_sdk.Client() as client:
        vectors = client.encode(texts)  # [N, D]
    words = TfidfVectorizer().fit_transform(texts)  # [N, vocabulary]

    halves = StratifiedGroupKFold(2, shuffle=True, random_state=0)
    learn, held_out = next(halves.split(texts, labels, groups=files))
    learn = np.random.default_rng(0).permutation(learn)
    often = np.bincount(labels[held_out]).max() / len(held_out)
    print(f"{len(held_out)} held-out docstrings; always saying the same would be right for {often:.1%}")
    for count in [*LABELLED, len(learn)]:
        scores = []
        for features in (words, vectors):
            classifier = LogisticRegression(C=10).fit(features[learn[:count]], labels[learn[:count]])
            scores.append(classifier.score(features[held_out], labels[held_out]))
        print(f"  {count:3} labelled: {scores[0]:.1%} right by words, {scores[1]:.1%} by vectors")

    sure = classifier.predict_proba(vectors[held_out]).max(axis=1)
    wrong = classifier.predict(vectors[held_out]) != labels[held_out]
    print("surest mistakes:")
    for index in sorted(np.flatnonzero(wrong), key=lambda index: -sure[index])[:3]:
        print(f"  {sure[index]:.0%} sure, but it is {PACKAGES[labels[held_out][index]]}: {texts[held_out][index][:70]}")


if __name__ == "__main__":
    main()
