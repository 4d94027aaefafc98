"""Where the template of every family is: in the project's repository, or within the package that was installed."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]

IN_CHECKOUT = not (_PACKAGE / "template").is_dir()
"""Whether this is the project's repository: a wheel has the template within the package."""

TEMPLATE = _PACKAGE.parent / "model_repository" if IN_CHECKOUT else _PACKAGE / "template"

REPOSITORY = TEMPLATE if IN_CHECKOUT else Path("model_repository")
"""Where an export goes that does not say: the checkout's own, else a directory where the command is run."""
