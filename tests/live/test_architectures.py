"""Networks of every architecture beside transformers' own models, in checkpoints that transformers has written.

The largest difference of each is printed (`pytest -s`).
"""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from transformers import AutoConfig, AutoModel, AutoTokenizer

from export import verify
from export.__main__ import main
from export.checkpoint import checkpoint
from export.network import network
from export.network.batches import laid_end_to_end, padded, without_padding
from export.network.runner import Network
from export.pipeline import save
from tests.support import architecture_vectors
from tests.support.architecture_vectors import Ids
from tests.support.checkpoints.architectures import VARIANTS, drawn
from tests.support.checkpoints.folders import VOCABULARY, write_tokenizer
from tests.support.trained_tokenizers import SIZE, byte_level_bpe, unigram, write_trained

torch = pytest.importorskip("torch")

BYTES = {"roberta", "deberta", "modernbert", "eurobert"}
PIECES = {"xlm-roberta", "camembert", "xlm-roberta-xl", "jina_embeddings_v3", "gte", "mpnet"}
PADDING = "<pad>"  # a literal one in a text


def write_checkpoint(folder, settings, tokenizer: str | None = None) -> None:
    """Save a model of transformers' own class, and a tokenizer of the kind that its architecture came with."""
    settings = {**settings, "vocab_size": SIZE}
    model = AutoModel.from_config(AutoConfig.for_model(**settings), attn_implementation="eager")
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(torch.from_numpy(drawn(name, tuple(value.shape)) * scale(value)))
    model.save_pretrained(folder)
    kind = tokenizer or settings["model_type"]
    if kind in BYTES:
        write_trained(folder, byte_level_bpe(), of_class="RobertaTokenizer")
    elif kind in PIECES:
        write_trained(folder, unigram(), of_class="XLMRobertaTokenizer")
    else:
        write_tokenizer(folder, VOCABULARY)


def scale(weight) -> float:
    """What keeps the products of wide weights as large as those of small ones."""
    return min(1.0, (24 / weight.shape[-1]) ** 0.5) if weight.dim() > 1 else 1.0


def run(model: onnx.ModelProto | Path, encodings: list[Ids], is_padded: bool) -> np.ndarray:
    """token_embeddings, a row after another."""
    given = model if isinstance(model, Path) else model.SerializeToString()
    session = onnxruntime.InferenceSession(given, providers=["CPUExecutionProvider"])
    feed = padded(encodings) if is_padded else laid_end_to_end(encodings)
    outputs = {"token_embeddings": session.run(["token_embeddings"], feed)[0]}
    return (without_padding(outputs, encodings) if is_padded else outputs)["token_embeddings"]


@pytest.mark.parametrize("name", VARIANTS)
def test_what_was_recorded_is_what_transformers_computes(name):
    recorded = architecture_vectors.load(name)
    computed = architecture_vectors.compute(name)
    assert recorded.keys() == computed.keys()
    for key, value in computed.items():
        np.testing.assert_allclose(recorded[key], value, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_output_of_a_checkpoint_of_transformers_equals_it(tmp_path, capsys, monkeypatch, name):
    """Of sentences of many lengths, pairs of them and one text of the limit."""
    monkeypatch.setattr(verify, "_TEXTS", 24)
    folder = tmp_path / "checkpoint"
    write_checkpoint(folder, VARIANTS[name])
    arguments = [str(folder), "--repository", str(tmp_path / "repository"), "--layers", "-2", "0", "--verify"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    # RoCBert's tables of shapes and sounds are there whether they are used or not.
    assert ("skipped" in out) == (name == "roc_bert")
    largest = [line.split()[3] for line in out.splitlines() if "max |difference|" in line]
    source = checkpoint.load(str(folder))
    pooler = source.encoder.pooler is not None and source.weights.has(source.encoder.pooler.weight.name)
    save(network.build(source.encoder, source.weights, (-1,), pooler, is_padded=True), tmp_path / "padded.onnx")
    found = verify.compare(Network(tmp_path / "padded.onnx"), source, (-1,), source.defaults.max_seq_len)
    assert pooler == (len(found) == 3)
    with capsys.disabled():
        others = ", ".join(f"{one.output} {one.largest:.2e}" for one in found)
        print(f"\n{name}: padding-free, layers -2 and 0: {', '.join(largest)}; padded: {others}")


@pytest.mark.parametrize("name", ["roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet"])
def test_a_literal_padding_token_in_a_text_is_no_position(tmp_path, name):
    write_checkpoint(tmp_path, VARIANTS[name])
    source = checkpoint.load(str(tmp_path))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    ids = tokenizer(f"the fox {PADDING} and {PADDING}{PADDING} the dog")["input_ids"]
    assert ids.count(tokenizer.pad_token_id) == 3
    with torch.inference_mode():
        expected = verify._model(source)(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy()
    for is_padded in (False, True):
        found = run(network.build(source.encoder, source.weights, is_padded=is_padded), [Ids(ids)], is_padded)
        np.testing.assert_allclose(found, expected, rtol=0, atol=verify.TOLERANCE)


LARGE = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072, "num_hidden_layers": 2}
LARGE |= {"pad_token_id": 1, "vocab_size": SIZE}
TRUE_SIZES = {
    "roberta": {"max_position_embeddings": 514},
    "mpnet": {"max_position_embeddings": 514},
    "deberta-v2": {
        "max_position_embeddings": 512,
        "position_buckets": 256,
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
        "position_biased_input": False,
        "conv_kernel_size": 3,
        "conv_act": "gelu",
    },
    "nomic_bert": {"max_position_embeddings": 2048},
    "modernbert": {"max_position_embeddings": 8192, "intermediate_size": 1152, "num_hidden_layers": 3},
}


@pytest.mark.parametrize("model_type", TRUE_SIZES)
def test_a_network_of_true_size_equals_transformers_up_to_its_longest_text(tmp_path, capsys, model_type):
    write_checkpoint(tmp_path, {"model_type": model_type, **LARGE, **TRUE_SIZES[model_type]})
    source = checkpoint.load(str(tmp_path))
    longest = source.encoder.max_positions
    rng = np.random.default_rng(0)
    encodings = [Ids(rng.integers(5, len(VOCABULARY), length).tolist()) for length in (3, longest, 150)]
    # Of long texts, without the scores of all pairs of tokens.
    attention = "sdpa" if longest > 1024 else "eager"
    model = AutoModel.from_pretrained(tmp_path, attn_implementation=attention, dtype="float32").eval()
    with torch.inference_mode():
        states = [model(input_ids=torch.tensor([one.ids])).last_hidden_state[0].numpy() for one in encodings]
    del model
    for is_padded in (False, True) if longest <= 1024 else (False,):
        path = tmp_path / f"{is_padded}.onnx"
        save(network.build(source.encoder, source.weights, is_padded=is_padded), path)
        gap = float(np.abs(run(path, encodings, is_padded) - np.concatenate(states)).max())
        with capsys.disabled():
            layout = "padded" if is_padded else "padding-free"
            print(f"\n{model_type} of true size, texts of 3 to {longest} tokens, {layout}: {gap:.2e}")
        assert gap <= verify.TOLERANCE
