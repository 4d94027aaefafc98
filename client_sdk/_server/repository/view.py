"""A repository as tritonserver can take it, whatever its path and whatever else lies in it.

Triton's Python backend puts the paths of its steps into a command for a shell, unquoted, and tritonserver takes every
directory for a model. So where the path has other than plain characters, or something lies there that is no model, the
server is given a directory of links in its place.
"""

from __future__ import annotations

from pathlib import Path

from client_sdk._errors import InvalidArgument
from client_sdk._server.own_files import is_plain
from client_sdk._server.repository.families import ModelRepository


def served_path(repository: ModelRepository, directory: Path, *, models_may_come: bool) -> Path:
    """What to give to tritonserver: the repository itself, or links to what it is to serve, made in `directory`.

    Args:
        repository: What was read.
        directory: The server's own, with a plain path.
        models_may_come: Models are loaded by name, also later on. So the directory is the repository itself, and what
            else lies in it does no harm, unless it lies in a model.

    Raises:
        InvalidArgument: something in a model would do harm.
    """
    view = directory / "models"
    if models_may_come:
        strangers = [f"{model.name}/{name}" for model in repository.models for name in model.left_out]
        if strangers:
            raise InvalidArgument(
                f"model repository {str(repository.path)!r} holds {', '.join(strangers)}, unfinished: finish or remove "
                "it, since with the endpoint model-repository open nothing can be left out of a model"
            )
        if is_plain(repository.path):
            return repository.path
        view.symlink_to(repository.path)
        return view
    if is_plain(repository.path) and not repository.holds_strangers:
        return repository.path
    view.mkdir()
    for model in repository.models:
        (view / model.name).mkdir()
        for entry in model.path.iterdir():
            if entry.name not in model.left_out:
                (view / model.name / entry.name).symlink_to(entry)
    return view
