"""Your own tokenizer: texts cut up on your side, sent as lists of tokens (`is_tokenized=True`).

BERT's tokenizer was made for prose and tears names in code apart in odd places. Cut at their capitals instead, the same
model finds more of Python's classes by what their docstrings say. Tokens are taken as they stand, and one that is not
in the model's vocabulary would count as unknown: words that are not in it go through the model's own tokenizer here.

    python -m examples.own_tokenizer    # while `make serve` runs in another terminal
"""

import inspect
import re
from importlib import import_module
from pathlib import Path

from tokenizers import Tokenizer

import client_sdk

WORDPIECE = Path(__file__).parents[1] / "model_repository/bert_tokenizer/1/tokenizer.json"  # written by export
MODULES = ["builtins", "asyncio", "collections.abc", "http.client", "importlib.abc", "logging.handlers", "unittest"]
SHOWN = ["ConnectionRefusedError", "KeyboardInterrupt"]
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def documented_classes() -> dict[str, str]:
    """Return the first paragraph of the docstring of each class whose name has several words and is not in it."""
    classes = {}
    for module in map(import_module, MODULES):
        for name, value in vars(module).items():
            if inspect.isclass(value) and len(WORD.findall(name)) > 1 and isinstance(value.__doc__, str):
                paragraph = " ".join(value.__doc__.partition("\n\n")[0].split())
                if name not in paragraph and paragraph not in classes.values():
                    classes[name] = paragraph
    return classes


def main() -> None:
    """Print what both tokenizers make of names, and how many names are nearest to their own docstring."""
    classes = documented_classes()
    wordpiece = Tokenizer.from_file(str(WORDPIECE))
    tokens = {name: wordpiece.encode(WORD.findall(name), is_pretokenized=True).tokens[1:-1] for name in classes}
    with client_sdk.Client() as client:
        docstrings = client.encode(classes.values())  # [N, D]
        by_bert = client.encode(list(classes))
        by_us = client.encode(tokens.values(), is_tokenized=True)
        for name in SHOWN:
            print(f"{name}: {' '.join(client.encode_tokens(name).tokens[1:-1])} | {' '.join(tokens[name])}")
    for what, names in (("BERT's own tokens", by_bert), ("names cut at capitals", by_us)):
        nearest = (names @ docstrings.T).argmax(axis=1)  # [N]
        right = sum(nearest == range(len(classes)))
        print(f"{what}: {right} of {len(classes)} classes nearest to their own docstring ({right / len(classes):.0%})")


if __name__ == "__main__":
    main()
