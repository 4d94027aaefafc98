"""What an export decides about the family that most tests start from, and what it wrote into a family's configs."""

from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from export.repository.family import ROLES, Family

MINILM = Family(
    name="bert",
    hidden_size=384,
    layers=(-1,),
    pooler=True,
    max_seq_len=256,
    pooling="mean",
    normalize=True,
    prompts={},
)
"""all-MiniLM-L6-v2 for the Python backend, which is what the committed template says."""


def identities(repository: Path, name: str = "bert") -> dict[str, str]:
    """The identity parameters of a family's models, which must all say the same."""
    found = []
    for role in ROLES:
        config = text_format.Parse((repository / f"{name}{role}" / "config.pbtxt").read_text(), ModelConfig())
        found.append({k: v.string_value for k, v in config.parameters.items() if k.startswith("identity.")})
    assert all(other == found[0] for other in found)
    return found[0]
