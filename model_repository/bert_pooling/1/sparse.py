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
        most = parameters.get("max_active_dims", self.default)
        if type(most) is not int or most < 1:
            raise Refused(f"parameter max_active_dims is {shown(most)}; it takes 1 and more")
        indices, weights = read("indices")[:, :most], read("weights")[:, :most]
        width = max(1, int((indices >= 0).sum(axis=1).max(initial=0)))
        finite = np.isfinite(weights).all(axis=1)
        return (np.ascontiguousarray(indices[:, :width]), np.ascontiguousarray(weights[:, :width])), finite
