"""Writes the two files beside this one, as FlagEmbedding's M3 model saves its layers; run with PyTorch in the project's
root: `python -m tests.data.bge_m3.write`. On the hub they are in half precision, as the vectors' layer is here.
"""

from pathlib import Path

import torch

from tests.support.checkpoints.m3 import COLBERT, SPARSE

for name, values, dtype in (("colbert_linear", COLBERT, torch.float16), ("sparse_linear", SPARSE, torch.float32)):
    size, size_in = values["weight"].shape
    layer = torch.nn.Linear(size_in, size)
    layer.load_state_dict({key: torch.from_numpy(value) for key, value in values.items()})
    torch.save(layer.to(dtype).state_dict(), Path(__file__).parent / f"{name}.pt")
