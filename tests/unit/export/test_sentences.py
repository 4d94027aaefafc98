import pytest

from export.sentences import _sentences, docstring_sentences


@pytest.fixture(scope="module")
def sentences() -> list[str]:
    return docstring_sentences()


def test_there_are_thousands_of_different_sentences_of_mixed_lengths(sentences: list[str]) -> None:
    words = sorted(len(sentence.split()) for sentence in sentences)
    assert len(sentences) > 10_000
    assert len(set(sentences)) == len(sentences)
    assert words[0] <= 3
    assert 8 < words[len(words) // 2] < 20
    assert words[-1] > 150


def test_a_docstring_is_split_at_its_full_stops_and_each_sentence_is_one_line(sentences: list[str]) -> None:
    assert "Remove any common leading whitespace from every line in `text`." in sentences
    assert (
        "This can be used to make triple-quoted strings line up with the left edge of the display, while "
        "still presenting them in the source code in indented form."
    ) in sentences
    assert all(sentence == " ".join(sentence.split()) for sentence in sentences)


def test_the_list_is_the_same_every_time(sentences: list[str]) -> None:
    _sentences.cache_clear()
    assert docstring_sentences() == sentences
