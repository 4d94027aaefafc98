"""Checkpoints as BGE-M3's become one family of three kinds of vectors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export import settings
from export.__main__ import main
from export.checkpoint import checkpoint
from export.checkpoint.late_interaction import LateInteraction
from export.errors import ExportError
from export.repository.family import Family
from export.settings import Request
from tests.support.checkpoints.folders import write_bert
from tests.support.checkpoints.m3 import COLBERT, HIDDEN, LONGEST, SETTINGS, SPARSE, write
from tests.support.trained_tokenizers import SIZE

LAYERS = ("colbert_linear.pt", "sparse_linear.pt")


def family(folder: Path, **options: object) -> Family:
    request = Request(str(folder), "own", folder / "repository", **options)  # type: ignore[arg-type]
    settings.check(request)
    source = checkpoint.load(str(folder), encoder_only=request.encoder_only)
    return settings.settled(request, source)


def test_the_two_layers_beside_a_network_make_a_family_of_three_kinds(tmp_path: Path) -> None:
    write(tmp_path)
    source, found = checkpoint.load(str(tmp_path)), family(tmp_path)
    assert [*found.models()] == [
        f"own{role}" for role in ("", "_sparse", "_multi", "_tokens", "_tokenizer", "_encoder", "_pooling")
    ]
    assert (found.pooling, found.normalize, found.dimension, found.max_seq_len) == ("cls", True, HIDDEN, LONGEST)
    assert (found.lexical, found.vocab_size, found.max_active_dims) == ((0, 1, 2, 3), SIZE, None)
    assert found.multi == LateInteraction(HIDDEN, "identity normalize", skips_first=True)
    assert found.similarity == "cosine"
    for name, values in (("colbert_linear", COLBERT), ("sparse_linear", SPARSE)):
        for key, value in values.items():
            np.testing.assert_array_equal(source.weights.take(f"{name}.{key}", value.shape), value)


def test_a_folder_without_modules_is_pooled_as_flag_embedding_does(tmp_path: Path) -> None:
    write(tmp_path, modules=False)
    found = family(tmp_path)
    assert (found.pooling, found.normalize, found.max_seq_len) == ("cls", True, LONGEST)
    assert (family(tmp_path, encoder_only=True).pooling, family(tmp_path, encoder_only=True).normalize) == (
        "mean",
        False,
    )
    assert (family(tmp_path, pooling="mean", normalize=False).pooling, found.lexical) == ("mean", (0, 1, 2, 3))


@pytest.mark.parametrize("layer", LAYERS)
def test_each_layer_makes_its_own_kind(tmp_path: Path, layer: str) -> None:
    write(tmp_path, layers=[layer])
    found = family(tmp_path)
    is_sparse = layer == "sparse_linear.pt"
    assert [*found.answers] == ["", "_sparse" if is_sparse else "_multi"]
    assert (found.lexical is not None, found.multi is not None) == (is_sparse, not is_sparse)


def test_without_them_or_of_the_encoder_alone_it_is_a_family_of_dense_vectors(tmp_path: Path) -> None:
    write(tmp_path)
    alone = family(tmp_path, encoder_only=True)
    assert [*alone.answers] == [""] and alone.lexical is alone.multi is None
    write(tmp_path / "plain", layers=[])
    assert replace(alone, name="own") == family(tmp_path / "plain")


def test_special_tokens_are_those_that_flag_embedding_leaves_out(tmp_path: Path) -> None:
    """Of BERT's, which has no token at the end of a text, not [SEP]."""
    write_bert(tmp_path, hidden=HIDDEN)
    write(tmp_path / "layers")
    for name in LAYERS:
        (tmp_path / name).write_bytes((tmp_path / "layers" / name).read_bytes())
    assert family(tmp_path).lexical == (0, 1, 2)


def test_layers_of_another_network_are_refused(tmp_path: Path) -> None:
    write(tmp_path, settings={**SETTINGS, "hidden_size": 32})
    with pytest.raises(ExportError, match=r"sparse_linear.pt: its weight has shape \[1, 24\]; \[1, 32\] is expected"):
        checkpoint.load(str(tmp_path))
    write(tmp_path / "swapped")
    (tmp_path / "swapped/sparse_linear.pt").write_bytes((tmp_path / "colbert_linear.pt").read_bytes())
    with pytest.raises(ExportError, match=r"sparse_linear.pt: its weight has shape \[24, 24\]; \[1, 24\] is expected"):
        checkpoint.load(str(tmp_path / "swapped"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "tensorrt"}, "--backend tensorrt is for dense vectors alone, .* --encoder-only for dense"),
        ({"precision": "int8"}, "--precision int8 is for dense vectors alone, .*sparse_linear.pt and colbert_linear"),
    ],
)
def test_what_has_not_been_tried_with_several_kinds_is_refused(tmp_path: Path, options: object, message: str) -> None:
    write(tmp_path)
    with pytest.raises(ExportError, match=message):
        family(tmp_path, **options)  # type: ignore[arg-type]
    family(tmp_path, encoder_only=True, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", ["python", "onnxruntime"])
def test_an_export_says_what_it_has_written_and_takes_the_place_of_one_of_dense_vectors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], backend: str
) -> None:
    write(tmp_path / "m3")
    arguments = ["--name", "m3", "--repository", str(tmp_path / "models"), "--backend", backend]
    assert main([str(tmp_path / "m3"), *arguments, "--encoder-only"]) == 0
    assert "gives" not in capsys.readouterr().out
    assert main([str(tmp_path / "m3"), *arguments]) == 0
    said = capsys.readouterr().out
    assert f"m3 gives dense vectors (EMBEDDING) of {HIDDEN} numbers\n" in said
    assert f"m3_sparse gives sparse vectors (INDICES, WEIGHTS) over {SIZE} words\n" in said
    assert f"m3_multi gives a vector of {HIDDEN} numbers for each token (TOKEN_EMBEDDING)\n" in said
    assert "skipped" not in said
    assert {path.name for path in (tmp_path / "models").iterdir()} == {
        f"m3{role}" for role in ("", "_sparse", "_multi", "_tokens", "_tokenizer", "_encoder", "_pooling")
    }
    assert main([str(tmp_path / "m3"), *arguments, "--encoder-only"]) == 1
    assert "m3_sparse, which this checkpoint has not" in capsys.readouterr().err
