"""What BGE-M3 has beside a network of dense vectors, from the files that FlagEmbedding writes.

`sparse_linear.pt` makes the weight of each token of a text, `colbert_linear.pt` a vector of late interaction of each;
both are a linear layer over the states of the last layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from export.checkpoint.late_interaction import LateInteraction
from export.checkpoint.sentence_transformers import Defaults
from export.checkpoint.torch_file import TorchWeights
from export.checkpoint.weights import SafetensorsWeights, WithModules
from export.errors import ExportError
from export.network.architectures.encoder import Projection, TokenVectors, linear
from export.network.layout import TOKEN_VECTORS, TOKEN_WEIGHTS
from export.tokenizer.conversion import TokenizerSource

FILES = ("sparse_linear.pt", "colbert_linear.pt")
_SPARSE, _COLBERT = (file.removesuffix(".pt") for file in FILES)

# Their weights count for nothing, wherever they stand in a text; by the names that transformers has for them.
_NO_WORDS = ("cls_token", "eos_token", "pad_token", "unk_token")


@dataclass(frozen=True)
class Files:
    """The layers that there are.

    Attributes:
        layers: Their weights, by their names.
        heads: What the network makes by them, by the name of its output.
    """

    layers: Mapping[str, TorchWeights]
    heads: Mapping[str, TokenVectors]

    def weights(self, encoder: SafetensorsWeights) -> WithModules:
        """All weights of the network, where `encoder` has those of its encoder."""
        return WithModules(encoder, {f"{name}.": layer for name, layer in self.layers.items()})

    def lexical(self, tokens: TokenizerSource) -> tuple[int, ...] | None:
        """The tokens whose weights do not count; None where there are no weights."""
        if TOKEN_WEIGHTS not in self.heads:
            return None
        return tuple(sorted({tokens.special_ids[name] for name in _NO_WORDS if name in tokens.special_ids}))

    def multi(self) -> LateInteraction | None:
        """What is done with vectors of tokens: the first, which stands for the whole text, does not count."""
        if TOKEN_VECTORS not in self.heads:
            return None
        (projection,) = self.heads[TOKEN_VECTORS].projections
        return LateInteraction(projection.size, "identity normalize", skips_first=True)


def read(root: Path, hidden_size: int) -> Files | None:
    """Read the layers in a folder, each for itself; None where there is none.

    Raises:
        ExportError: One is damaged, or of another network.
    """
    layers = {file.removesuffix(".pt"): TorchWeights(root / file) for file in FILES if (root / file).exists()}
    heads = {}
    for name, weights in layers.items():
        size, size_in = weights.shape("weight", 2)
        if size_in != hidden_size or (name == _SPARSE and size != 1) or not size:
            raise ExportError(
                f"{root / name}.pt: its weight has shape {[size, size_in]}; "
                f"[{1 if name == _SPARSE else 'any'}, {hidden_size}] is expected behind this network"
            )
        projection = Projection(linear(name), size_in, size)
        if name == _SPARSE:
            heads[TOKEN_WEIGHTS] = TokenVectors((projection,), normalize=False)
        else:
            heads[TOKEN_VECTORS] = TokenVectors((projection,))
    return Files(layers, heads) if layers else None


def usual(defaults: Defaults) -> Defaults:
    """What holds for a folder without modules.json, as FlagEmbedding leaves one that it has trained."""
    return replace(defaults, pooling="cls", normalize=True)
