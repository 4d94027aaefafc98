"""A family that misbehaves as the model of moody_model.py does, for what asks families alone."""

from pathlib import Path

from tests.support.servers.moody_model import MODEL

ENSEMBLE = """
platform: "ensemble"
max_batch_size: 64
input { name: "TEXT" data_type: TYPE_STRING dims: -1 }
output { name: "EMBEDDING" data_type: TYPE_FP32 dims: -1 }
output { name: "TOKEN_COUNT" data_type: TYPE_INT32 dims: 1 }
ensemble_scheduling {
  step {
    model_name: "bert_tokenizer"
    model_version: -1
    input_map { key: "TEXT" value: "TEXT" }
    output_map { key: "EMBEDDING" value: "EMBEDDING" }
    output_map { key: "TOKEN_COUNT" value: "TOKEN_COUNT" }
  }
}
"""
STEP = """
backend: "python"
max_batch_size: 64
input { name: "TEXT" data_type: TYPE_STRING dims: -1 }
output { name: "EMBEDDING" data_type: TYPE_FP32 dims: -1 }
output { name: "TOKEN_COUNT" data_type: TYPE_INT32 dims: 1 }
instance_group { count: 4 kind: KIND_CPU }
"""
PARAMETERS = {
    "dimension": "1",
    "max_seq_len": "100",
    "pooling": "mean",
    "normalize": "false",
    "layers": "[-1]",
    "similarity": "cosine",
}
ANSWER = '[pb_utils.Tensor("EMBEDDING", vectors)]'
COUNTED = '[pb_utils.Tensor("EMBEDDING", vectors), pb_utils.Tensor("TOKEN_COUNT", np.ones((len(texts), 1), np.int32))]'


def make_moody_family(repository: Path, family: str = "bert") -> Path:
    """A repository with a family: EMBEDDING [N, 1] is the length of the text, unless the text is a mood."""
    assert ANSWER in MODEL
    step = f"{family}_tokenizer"
    for name, config in ((family, ENSEMBLE.replace("bert_tokenizer", step)), (step, STEP)):
        (repository / name / "1").mkdir(parents=True)
        (repository / name / "config.pbtxt").write_text(config)
    with (repository / step / "config.pbtxt").open("a") as file:
        for name, value in PARAMETERS.items():
            file.write(f'parameters {{ key: "{name}" value {{ string_value: "{value}" }} }}\n')
    (repository / step / "1" / "model.py").write_text(MODEL.replace(ANSWER, COUNTED))
    return repository
