"""A vector for each token in its context, as ELMo made popular: one word, three meanings, told apart.

A dictionary of word vectors has one vector for "root". BERT computes it anew in every text, from all that stands
around it. `encode_tokens` gives those vectors, and here each "root" is nearest to another of its own kind.

    python -m examples.contextual_tokens    # while `make serve` runs in another terminal
"""

import numpy as np

import client_sdk

WORD = "root"
SENTENCES = [  # from Python's docstrings
    ("number", "Return the square root of the population variance."),
    ("number", "Square root of a non-negative number to context precision."),
    ("number", "Closest integer to the square root of the positive integer n."),
    ("logger", "If no name is specified, return the root logger."),
    ("logger", "Perform configuration which is common to root and non-root loggers."),
    ("logger", "Log a message with severity 'ERROR' on the root logger, with exception information."),
    ("folder", "Bootstrap pip into the current Python installation (or the given root directory)."),
    ("folder", "Test whether a path is a mount point (a drive root, the root of a share, or a mounted volume)"),
    ("folder", "True if the path is absolute (has both a root and, if applicable, a drive)."),
]


def main() -> None:
    """Print how alike the word's vectors are, and each one's nearest."""
    meanings, texts = zip(*SENTENCES, strict=True)
    with client_sdk.Client() as client:
        encoded = client.encode_tokens(texts)  # of each text: tokens, and vectors [T, D]
    words = np.stack([item.vectors[item.tokens.index(WORD)] for item in encoded])
    words /= np.linalg.norm(words, axis=1, keepdims=True)
    similarity = words @ words.T
    print(f"the first text is {' '.join(encoded[0].tokens)}")
    print(f"\nhow alike {WORD!r} is (cosine), and where it is used most alike:")
    for index, row in enumerate(similarity):
        nearest = np.argsort(row)[-2]  # the last is the word itself
        cosines = " ".join(f"{cosine:.2f}" for cosine in row)
        print(f"  {meanings[index]} {index}  {cosines}  -> {meanings[nearest]} {nearest}  {texts[index][:60]}")
    same = np.equal.outer(meanings, meanings)
    others = ~np.eye(len(texts), dtype=bool)
    print(f"mean, same meaning: {similarity[same & others].mean():.2f}, other meaning: {similarity[~same].mean():.2f}")


if __name__ == "__main__":
    main()
