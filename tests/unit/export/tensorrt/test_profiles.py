import pytest

from export.errors import ExportError
from export.settings import Request
from export.tensorrt.profiles import DEFAULT, Profile, fitted, parse
from tests.support.places import ROOT


def test_profiles_are_read_in_the_order_given():
    assert parse("1-32,33-128,129-512") == DEFAULT == ((1, 32), (33, 128), (129, 512))
    assert parse("1-7") == (Profile(1, 7),)
    assert [str(profile) for profile in parse("1-4, 5-9")] == ["1-4", "5-9"]


@pytest.mark.parametrize("text", ["", "32", "1-", "1-32,", "a-b", "2-32", "1-32,34-64", "1-32,32-64", "1-0", "1-8,9-8"])
def test_ranges_with_gaps_or_overlaps_are_refused(text):
    with pytest.raises(ValueError, match="follow one another from 1 on"):
        parse(text)


@pytest.mark.parametrize(
    ("given", "max_seq_len", "expected"),
    [
        (DEFAULT, 512, "1-32 33-128 129-512"),
        (DEFAULT, 256, "1-32 33-128 129-256"),
        (DEFAULT, 128, "1-32 33-128"),
        (DEFAULT, 25, "1-25"),
        (DEFAULT, 2048, "1-32 33-128 129-2048"),
        (parse("1-64,65-512"), 256, "1-64 65-256"),
        (parse("1-512"), 512, "1-512"),
    ],
)
def test_profiles_end_at_max_seq_len(given, max_seq_len, expected):
    assert " ".join(map(str, fitted(given, max_seq_len))) == expected


def test_profiles_that_end_before_max_seq_len_are_refused():
    with pytest.raises(ExportError, match=r"end at 64 tokens.*up to 256.*add 65-256.*--max-seq-len 64"):
        fitted(parse("1-64"), 256)


def test_the_lines_for_trtexec_have_the_default_profiles():
    page = (ROOT / "docs/gpu.md").read_text(encoding="utf-8")
    most = Request("checkpoint", "bert", ROOT).max_batch_size
    for index, (shortest, longest) in enumerate(DEFAULT):
        shapes = f"1x{shortest}", f"{most // 2}x{longest}", f"{most}x{longest}"
        given = " ".join(f"--{name}Shapes=$(shapes {s})" for name, s in zip(("min", "opt", "max"), shapes, strict=True))
        assert f"--profile={index} {given}" in page
