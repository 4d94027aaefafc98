"""Text for the examples: the docstrings of Python's standard library."""

import ast
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def first_paragraphs(package: str) -> dict[str, str]:
    """Return the first paragraph of every docstring in `package`, each once, with the file that it is in.

    Nothing is imported.
    """
    library = Path(sysconfig.get_path("stdlib"))
    files = [*library.glob(f"{package}.py"), *sorted(library.glob(f"{package}/**/*.py"))]
    paragraphs: dict[str, str] = {}
    for file in files:
        if "test" in file.parts:  # some packages hold their own tests
            continue
        for node in ast.walk(ast.parse(file.read_bytes())):
            docstring = ast.get_docstring(node) if isinstance(node, _DOCUMENTED) else None
            paragraph = " ".join((docstring or "").partition("\n\n")[0].split())
            if " " in paragraph:
                paragraphs.setdefault(paragraph, file.relative_to(library).as_posix())
    return paragraphs


def labelled_paragraphs(packages: Sequence[str]) -> tuple[npt.NDArray[np.str_], npt.NDArray[np.int64], list[str]]:
    """Return the first paragraphs of several packages: [N] texts, the index of each one's package, and its file."""
    groups = [first_paragraphs(package) for package in packages]
    texts = np.array([text for group in groups for text in group])
    labels = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    return texts, labels, [file for group in groups for file in group.values()]
