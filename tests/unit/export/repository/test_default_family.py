from pathlib import Path

from export.repository.configs import TEMPLATE
from export.repository.family import ROLES


def test_the_committed_repository_is_what_the_default_export_writes(repository: Path):
    committed = [
        path
        for role in ROLES
        for pattern in ("config.pbtxt", "warmup/*", "1/*.py", "1/.gitkeep")
        for path in (TEMPLATE / f"bert{role}").glob(pattern)
    ]
    neighbours = [path.name for path in committed if path.name != "model.py" and path.suffix == ".py"]
    assert len(committed) - len(neighbours) == 5 + 2 + 3 + 2
    for path in committed:
        assert (repository / path.relative_to(TEMPLATE)).read_bytes() == path.read_bytes(), path
    written = {path for path in repository.glob("bert*/**/*") if path.is_file() and path.suffix != ".pyc"}
    extra = {str(path.relative_to(repository)) for path in written} - {
        str(path.relative_to(TEMPLATE)) for path in committed
    }
    steps = ("tokenizer", "encoder", "pooling")
    assert extra == {
        "bert_encoder/1/model.onnx",
        "bert_tokenizer/1/tokenizer.json",
        *(f"bert_{step}/1/identity" for step in steps),
    }
