"""Where a text may be cut so that the tokens of its pieces, one after the other, are the tokens of the whole.

That holds beside a character that always stands apart, such as a blank, a full stop or a Chinese character for BERT,
if the tokenizer

- normalizes character by character, but for combining marks, which belong to what stands before them, and splits
  words by looking at single characters (NORMALIZERS, PRE_TOKENIZERS), so that what it does on one side of such a
  character does not depend on the other side;
- has no added token that reaches across: none holds the character, but as its first one (the text may then be cut
  before it) or its last one (after it).

Other tokenizers get each text whole.
"""

import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any

from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import PreTokenizer

NORMALIZERS = ("BertNormalizer", "Lowercase", "NFD", "StripAccents")
PRE_TOKENIZERS = ("BertPreTokenizer", "WhitespaceSplit")

# What BERT takes for Chinese characters.
IDEOGRAPHS = (
    ("\u3400", "\u4dbf"),
    ("\u4e00", "\u9fff"),
    ("\uf900", "\ufaff"),
    ("\U00020000", "\U0002a6df"),
    ("\U0002a700", "\U0002b73f"),
    ("\U0002b740", "\U0002b81f"),
    ("\U0002b920", "\U0002ceaf"),
    ("\U0002f800", "\U0002fa1f"),
)


class Cutter:
    """Cuts texts into pieces of about `size` bytes, or longer ones where there is no place to cut."""

    def __init__(self, tokenizer: Tokenizer, spec: dict[str, Any], size: int) -> None:
        """`spec` is the tokenizer as JSON, read."""
        self.size = size
        before, after = _places(tokenizer, spec)
        self.last_place: re.Pattern[str] | None = None
        if before or after:
            ends = [f"(?=[{before}])"] * bool(before) + [f"(?<=[{after}])"] * bool(after)
            self.last_place = re.compile(f"(?s).+(?:{'|'.join(ends)})")

    def cut(self, data: bytes, start: int, most: int = sys.maxsize) -> tuple[str, int] | None:
        """The piece of a text that begins at `start`, and where it ends; None if it has more than `most` bytes.

        `data` is valid UTF-8; places are in bytes.
        """
        reached = start
        while True:
            end = _end_of_character(data, reached + self.size) if self.last_place else len(data)
            if end - start > most and end - start > self.size:
                return None
            if end == len(data):
                return data[start:].decode(), end
            part = data[reached:end].decode()
            found = self.last_place.match(part) if self.last_place else None
            if found:
                last = found.group().encode()
                return (data[start:reached] + last).decode(), reached + len(last)
            reached = end


def _places(tokenizer: Tokenizer, spec: dict[str, Any]) -> tuple[str, str]:
    """The characters that a text may be cut before, and those that it may be cut after, as two character classes."""
    normalizers = _kinds(spec.get("normalizer"), "normalizers")
    if not (normalizers <= {*NORMALIZERS} and _kinds(spec.get("pre_tokenizer"), "pretokenizers") <= {*PRE_TOKENIZERS}):
        return "", ""
    if not spec.get("pre_tokenizer"):
        return "", ""
    normalize = tokenizer.normalizer.normalize_str if tokenizer.normalizer else str
    contents = [token["content"] for token in spec["added_tokens"]]
    contents = [*contents, *map(normalize, contents)]
    not_first = {character for content in contents for character in content[1:]}
    not_last = {character for content in contents for character in content[:-1]}
    # Such a token is one only between characters that are no part of a word: of those, blanks alone are known here.
    words = [token["content"] for token in spec["added_tokens"] if token["single_word"]]
    words = [*words, *map(normalize, words)]
    only_blanks = bool(words)
    if any(word != word.strip() for word in words):  # what decides stands behind the blank, in the other piece
        return "", ""

    before, after = "", ""
    for first, last in _standing_apart(tokenizer.pre_tokenizer, normalize):
        if only_blanks and not first.isspace():
            continue
        forms = normalize(first)
        characters = re.escape(first) if first == last else f"{first}-{last}"
        if not any(first <= character <= last or character in forms for character in not_first):
            before += characters
        if not any(first <= character <= last or character in forms for character in not_last):
            after += characters
    return before, after


def _standing_apart(pre_tokenizer: PreTokenizer, normalize: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    """The ranges of characters that stand apart: blanks, punctuation and, where it parts them, ideographs."""
    marks = [chr(i) for i in range(0x10000) if unicodedata.category(chr(i))[0] in "PSZ" or chr(i) in "\t\n\r"]
    for first, last in (*zip(marks, marks, strict=True), *IDEOGRAPHS):
        words = [word for word, _ in pre_tokenizer.pre_tokenize_str(normalize(f"a{first}a{last}a"))]
        if len(words) > 2 and words[0] == words[-1] == "a" and words[1:-1].count("a") == 1:
            yield first, last


def _kinds(part: dict[str, Any] | None, members: str) -> set[str]:
    """The types of a tokenizer's part, in the JSON of tokenizers; a Sequence is its members."""
    if part is None:
        return set()
    if part["type"] == "Sequence":
        return {kind for member in part[members] for kind in _kinds(member, members)}
    return {part["type"]}


def _end_of_character(data: bytes, place: int) -> int:
    """The next place that is not within a character."""
    while place < len(data) and data[place] & 0xC0 == 0x80:
        place += 1
    return min(place, len(data))
