"""What an export decides about the family that most tests start from."""

from export.family import Family

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
