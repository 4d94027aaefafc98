"""The heaviest words of a sparse vector: what the step does for a family of these.

`indices` INT32 and `weights` FP32 [N, K], the heaviest first and padded with -1 and 0, to INDICES and WEIGHTS of as
many words as are asked for, and no more than the text with the most has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from refused import Refused, shown


class Sparse:
    """A family's default."""

    reads = "indices"
    outputs = ("INDICES", "WEIGHTS")
    said, one = "sparse vectors", "a sparse vector that is"

    # Parameters of families of other kinds, which would have no effect here.
    of_others = ("pooling", "normalize", "truncate_dim", "activation")

    def __init__(self, settings: Mapping[str, str]) -> None:
        """Read the settings of a family."""
        self.default = int(settings.get("max_active_dims", settings["dimension"]))

    def compute(
        self, parameters: Mapping[str, Any], read: Callable[[str], npt.NDArray[Any]]
    ) -> tuple[tuple[npt.NDArray[Any], ...], npt.NDArray[np.bool_]]:
        """The words and weights of a request whose inputs `read` gives by name, and which texts' are finite, [N].

        Raises:
            Refused: A parameter is wrong.
        """
        found = cut(read("indices"), read("weights"), most(parameters, self.default))
        return found, np.isfinite(found[1]).all(axis=1)


def most(parameters: Mapping[str, Any], default: int) -> int:
    """How many words of a text a request asks for. Raises Refused."""
    asked = parameters.get("max_active_dims", default)
    if type(asked) is not int or asked < 1:
        raise Refused(f"parameter max_active_dims is {shown(asked)}; it takes 1 and more")
    return asked


def cut(indices: npt.NDArray[Any], weights: npt.NDArray[Any], count: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """So many words and weights of each text, [N, K], and no more than the text with the most has."""
    width = min(count, max(1, int((indices >= 0).sum(axis=1).max(initial=0))))
    return np.ascontiguousarray(indices[:, :width]), np.ascontiguousarray(weights[:, :width])
