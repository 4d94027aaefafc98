"""Real English sentences that every machine has, to check and measure networks with."""

import ast
import os
import random
import re
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_NOT_DOCUMENTATION = {"test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "__pycache__"}
_LIBRARY = Path(sysconfig.get_path("stdlib"))
_OF_A_MODULE = 8
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_WORD = re.compile(r"[A-Za-z]{2,}")


def docstring_sentences() -> list[str]:
    """Return the sentences in the docstrings of Python's standard library.

    There are about 17,000, from two words to half a page: under BERT's tokenizer half are shorter than 18
    tokens, the mean is 23, one in a hundred is longer than 110, and the longest have over 512. Each is there
    once, in the order of the files' names; one Python version always gives the same list. Nothing is
    imported.
    """
    return list(_sentences(_LIBRARY))


@cache  # reading takes up to seconds, and one process may need them more than once
def sample(count: int) -> tuple[str, ...]:
    """Return so many of those sentences, a few of each of some modules; the same ones every time."""
    chosen = random.Random(0)
    modules = _modules(_LIBRARY)
    chosen.shuffle(modules)
    found: dict[str, None] = {}
    for path in modules:
        own = list(_sentences_of(path))
        found |= dict.fromkeys(chosen.sample(own, min(len(own), _OF_A_MODULE)))
        if len(found) >= count:
            break
    return tuple(found)[:count]


@cache
def _sentences(library: Path) -> tuple[str, ...]:
    return tuple(dict.fromkeys(sentence for path in _modules(library) for sentence in _sentences_of(path)))


def _sentences_of(path: Path) -> Iterator[str]:
    return (sentence for text in _docstrings(path) for sentence in _split(text))


def _modules(library: Path) -> list[Path]:
    paths = []
    for folder, subfolders, files in os.walk(library):
        subfolders[:] = set(subfolders) - _NOT_DOCUMENTATION
        paths += [Path(folder, file) for file in files if file.endswith(".py")]
    return sorted(paths)


def _docstrings(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield text


def _split(docstring: str) -> Iterator[str]:
    paragraphs = [text for text in docstring.split("\n\n") if not text.lstrip().startswith(">>>")]
    for sentence in _SENTENCE_END.split(" ".join(" ".join(paragraphs).split())):
        if len(_WORD.findall(sentence)) > 1:
            yield sentence
