"""This project's server with the network in INT8."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace

from perf.compare.systems.ours import Client, Ours
from perf.compare.systems.system import Model, Serving

__all__ = ["Client", "OursInt8"]


class OursInt8(Ours):
    """As exported, nothing else set."""

    name = "ours-int8"
    title = "bert-on-triton, INT8"
    settings = "`python -m export --precision int8`, else as bert-on-triton"
    precision = "int8"

    def prepare(self, model: Model) -> None:
        """Export it anew."""
        from export.pipeline import export
        from export.settings import Request

        folder = self._in_int8(model).repository
        shutil.rmtree(folder, ignore_errors=True)
        export(Request(str(model.checkpoint), model.family, folder, precision="int8"), step=lambda what: nullcontext())

    @contextmanager
    def serve(self, model: Model) -> Iterator[Serving]:
        """Run a LocalServer."""
        with super().serve(self._in_int8(model)) as up:
            yield up

    def _in_int8(self, model: Model) -> Model:
        return replace(model, repository=model.folder / "repository-int8")
