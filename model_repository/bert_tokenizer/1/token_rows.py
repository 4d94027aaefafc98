"""The texts of a request to the rows of ids that BERT reads; what the step does, without Triton.

A request becomes a `Job`. Its texts are tokenized piece by piece, until the tokens that are kept are there, or to the
end where all must be counted; which pieces when, and together with whose, is the caller's to say.
"""

import json
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
from request_parameters import Refused, shown
from tokenizer_file import Frame, TokenizerFile
from tokenizers import Encoding

PROMPT = 2  # in the pooling mask: a token of a prompt, which is attended to and not pooled
MAX_TEXT_BYTES = 1 << 20
MAX_REQUEST_BYTES = 64 << 20  # the texts of a request in all, each with its prompt
MAX_FIRST_BYTES = 128 << 10  # of the pieces that a request has tokenized at once; one with more waits for its turns
PAIR_SEPARATOR = "|||"  # between the two texts of a pair in tokenized input, as in bert-as-service
PAIR_TRUNCATIONS = ("longest_first", "bert_as_service")
TRUNCATION_SIDES = ("right", "left")


class Side:
    """A text, or one of the two of a pair, and its tokens so far."""

    __slots__ = ("data", "place", "ids", "count")

    def __init__(self, data: bytes) -> None:
        self.data = data  # UTF-8
        self.place = 0  # where what is not tokenized yet begins, in bytes
        self.ids: list[int] = []  # those that may be kept
        self.count = 0  # of all so far

    @property
    def has_more(self) -> bool:
        """Whether some of the text is not tokenized yet."""
        return self.place < len(self.data)

    def take(self, ids: list[int], room: int, last: bool) -> None:
        """Add the tokens of a piece; the first of all are kept, or the last, and never more than there is room for."""
        self.count += len(ids)
        if last:
            self.ids = (self.ids + ids)[-room:]
        elif len(self.ids) < room:
            self.ids = (self.ids + ids)[:room] if self.ids else ids[:room]


class Job:
    """A request that has been read."""

    def __init__(
        self, tokenizer: TokenizerFile, options: dict[str, Any], texts: npt.NDArray[Any], wanted: Sequence[str]
    ) -> None:
        """`options` are those of the request; `texts` BYTES [N, 1] or [N, 2]; `wanted` names the outputs asked for.

        Raises Refused: an option or a text is not allowed.
        """
        self.tokenizer = tokenizer
        self.wanted = wanted
        self.request: Any = None  # Triton's, whose it is, where the caller has to know that later
        self.is_tokenized: bool = options.get("is_tokenized", False)
        self.truncate: bool = options.get("truncate", True)
        self.split_special_tokens: bool = options.get("split_special_tokens", tokenizer.splits_special_tokens)
        self.mask_cls_sep: bool = options.get("mask_cls_sep", False)
        self.skip_special_tokens: bool = options.get("skip_special_tokens", True)
        self.add_special_tokens: bool = options.get("add_special_tokens", True)
        if not (self.add_special_tokens or self.is_tokenized):
            raise Refused("parameter add_special_tokens is false; that goes together with is_tokenized only")
        side = options.get("truncation_side", TRUNCATION_SIDES[tokenizer.truncates_left])
        if side not in TRUNCATION_SIDES:
            raise Refused(f"parameter truncation_side is {shown(side)}; it takes {' or '.join(TRUNCATION_SIDES)}")
        # Tokenized input is bert-as-service's own form, so it is cut its way unless the request says otherwise.
        its_own = self.is_tokenized and "truncation_side" not in options
        self.pair_truncation: str = options.get("pair_truncation", PAIR_TRUNCATIONS[its_own])
        if self.pair_truncation not in PAIR_TRUNCATIONS:
            known = " or ".join(PAIR_TRUNCATIONS)
            raise Refused(f"parameter pair_truncation is {shown(self.pair_truncation)}; it takes {known}")
        self.keeps_last = side == "left" and not self._by_first
        if self._by_first and options.get("truncation_side") == "left":
            raise Refused(
                "parameter truncation_side left is not for pair_truncation bert_as_service, which cuts the right"
            )
        self.counts = "TOKEN_COUNT" in wanted or not self.truncate or self.keeps_last
        if self.is_tokenized and not options.keys().isdisjoint(("prompt", "prompt_name", "input_type")):
            raise Refused("parameter is_tokenized goes without a prompt: put the prompt's tokens into the text")

        self.expansion = tokenizer.expansion(options)
        self.limit: int = options.get("max_seq_len", tokenizer.length(options))
        self._check_limit(pairs=texts.shape[1] == 2)
        self.rows: list[list[Side]] = []  # of one Side or two
        self.unread: deque[tuple[int, bytes]] = deque()  # tokenized input, with its index
        self.pieces: deque[tuple[Side, str]] = deque()  # to be tokenized next
        prompt = tokenizer.prompt(options).encode()
        size = sum(map(len, texts.flat)) + len(texts) * len(prompt)
        if size > MAX_REQUEST_BYTES:
            raise Refused(
                f"the texts, each with its prompt, have {size} bytes; they may have {MAX_REQUEST_BYTES} in all"
            )
        for index, row in enumerate(texts):
            for value in row:
                _check_text(index, value)
        self.size = size
        if self.is_tokenized:
            if texts.shape[1] == 2:
                raise Refused("text 0: with is_tokenized a text is one JSON array of token strings, or of token ids")
            self.unread.extend(enumerate(texts[:, 0]))
        else:
            self.rows = [[Side(prompt + row[0]), *map(Side, row[1:])] for row in texts]
        # Of each row, from its start: tokens that are attended to and not pooled.
        self.unpooled = 0
        if prompt and not tokenizer.pools_prompts:
            self.unpooled = tokenizer.prompt_length(prompt.decode(), self.limit, self.split_special_tokens)
        self.room = self.limit - len(tokenizer.frame(pair=texts.shape[1] == 2))  # of texts that are no tokenized input

    def start(self) -> bool:
        """Cuts the first piece of each text, to be tokenized with those of others; False if they are too long for that.

        Tokenized input that is short enough is read at once.
        """
        if self.is_tokenized:
            if self.size <= MAX_FIRST_BYTES:
                while self.unread:
                    self.read_tokens()
            return not self.unread
        left = MAX_FIRST_BYTES
        for side in chain.from_iterable(self.rows):
            if not self._cut(side, left):
                self._start_over()
                return False
            left -= len(self.pieces[-1][1])
            if left < 0:
                self._start_over()
                return False
        return True

    def go_on(self, most: int) -> bool:
        """Cuts the next pieces, `most` of them, or reads the next tokenized text; False if nothing is left to do."""
        if self.unread:
            self.read_tokens()
            return True
        for row in self.rows:
            for side in row:
                while side.has_more and len(self.pieces) < most and self._needs(side, row):
                    self._cut(side)
                    if not self.counts:
                        break
        return bool(self.pieces)

    @property
    def is_done(self) -> bool:
        """Whether every token that is needed is there."""
        if self.unread or self.pieces:
            return False
        return not any(side.has_more and self._needs(side, row) for row in self.rows for side in row)

    def take(self, encodings: Sequence[Encoding]) -> None:
        """Take what the tokenizer made of `pieces`, of all of them."""
        for (side, _), encoding in zip(self.pieces, encodings, strict=True):
            side.take(encoding.ids, self.room, self.keeps_last)
        self.pieces.clear()

    def read_tokens(self) -> None:
        """Read the next tokenized text."""
        index, value = self.unread.popleft()
        tokens = _tokens(index, value)
        if type(tokens[0]) is int:
            self.rows.append([self._side_of_ids(index, tokens)])
            return
        middle = tokens.index(PAIR_SEPARATOR) if PAIR_SEPARATOR in tokens else len(tokens)
        row = []
        for half in (tokens[:middle], tokens[middle + 1 :]):
            side = Side(b"")
            side.count = len(half)
            # At most `limit` can be kept of either.
            half = half[-self.limit :] if self.keeps_last else half[: self.limit]
            side.ids = [self.tokenizer.id_of(index, token) for token in half]
            row.append(side)
        if middle < len(tokens):
            self._check_limit(pairs=True)
        self.rows.append(row)

    def _side_of_ids(self, index: int, ids: list[int]) -> Side:
        """The text of which a tokenizer has made these ids: what stands between the special tokens around it."""
        frame = self._frame(pair=False)
        head, tail = [*frame.head[0]], [*frame.tail[0]]
        own = ids[len(head) : max(len(head), len(ids) - len(tail))]
        unknown = next((one for one in ids if one not in self.tokenizer.vocabulary), None)
        if unknown is not None:
            raise Refused(
                f"text {index}: token id {shown(unknown)} is not in the vocabulary, of "
                f"{len(self.tokenizer.vocabulary)} tokens: token ids are those of this model's own tokenizer"
            )
        if ids != [*head, *own, *tail]:
            raise Refused(
                f"text {index}: its token ids do not begin with {shown(head)} and end with {shown(tail)}, as this "
                "model's own tokenizer puts special tokens around a text; parameter add_special_tokens false takes ids "
                "as they stand"
            )
        if not own:
            raise Refused(f"text {index}: no tokens; there is nothing to encode")
        side = Side(b"")
        side.count = len(own)
        side.ids = own[-self.limit :] if self.keeps_last else own[: self.limit]
        return side

    def finished_rows(self) -> Iterator[tuple[list[int], list[int], list[int], int]]:
        """The ids, the types, and where the special tokens are, of each row as it goes to the network; and its count.

        A single text keeps its first tokens. A pair loses tokens from its longer side, one at a time: on a tie from
        the second text in bert-as-service, and in transformers (longest_first) from the one that was the shorter. Where
        the tokenizer's truncation side is the left, except with bert-as-service's rule, the last tokens are kept.
        """
        for row in self.rows:
            first, second = row if len(row) == 2 else (row[0], Side(b""))
            is_pair = bool(second.count) or (len(row) == 2 and not self.is_tokenized and not self._by_first)
            frame = self._frame(is_pair)
            count = first.count + second.count + len(frame)
            lengths = _kept(first.count, second.count, self.limit - len(frame), self._by_first)
            if is_pair and self._by_first:
                frame = self._frame(bool(lengths[1]))
            sides = [_end(s.ids, n, self.keeps_last) for s, n in zip((first, second), lengths, strict=True)]
            yield (*frame.around(*sides), count)

    @property
    def _by_first(self) -> bool:
        return self.pair_truncation == "bert_as_service"

    def _frame(self, pair: bool) -> Frame:
        return self.tokenizer.frame(pair, self.add_special_tokens)

    def _needs(self, side: Side, row: list[Side]) -> bool:
        """Whether more tokens of a text are needed."""
        if self.counts or side.count <= self.room:
            return True
        # Of a pair whose sides are both too long, which of them is longer says which one keeps the odd token.
        return len(row) == 2 and not self._by_first and min(row[0].count, row[1].count) > self.room

    def _cut(self, side: Side, *most: int) -> bool:
        found = self.tokenizer.cutter.cut(side.data, side.place, *most)
        if found:
            piece, side.place = found
            self.pieces.append((side, piece))
        return bool(found)

    def _start_over(self) -> None:
        self.pieces.clear()
        for side in chain.from_iterable(self.rows):
            side.place = 0

    def _check_limit(self, pairs: bool) -> None:
        least = len(self.tokenizer.frame(pair=pairs)) + 1
        if pairs and not self._by_first:
            least += 1  # a token of each; bert-as-service's rule may drop the second text
        most = self.tokenizer.max_seq_len
        if self.expansion:
            least, most = self.expansion.length, self.expansion.length if self.expansion.fixed else most
        if not least <= self.limit <= most:
            queries = " for queries, which are filled up to that" if self.expansion else ""
            raise Refused(
                f"parameter max_seq_len is {self.limit}; it takes {least} to {most}, special tokens included{queries}"
            )


def outputs(job: Job) -> tuple[dict[str, npt.NDArray[Any]], int]:
    """The outputs that a request asks for, by name, and how many of its texts were cut.

    Raises Refused: a text is too long and may not be cut.
    """
    rows = list(job.finished_rows())
    lengths = [len(ids) for ids, _, _, _ in rows]
    if 0 in lengths:  # of a tokenizer that puts no special tokens around a text
        raise Refused(f"text {lengths.index(0)}: no tokens; there is nothing to encode")
    cut = [index for index, row in enumerate(rows) if row[3] > lengths[index]]
    if cut and not job.truncate:
        raise Refused(
            f"text {cut[0]}: {rows[cut[0]][3]} tokens, more than max_seq_len {job.limit}; "
            "shorten it, or let it be truncated (parameter truncate)"
        )
    filled = [max(length, job.expansion.length) for length in lengths] if job.expansion else lengths
    width = job.tokenizer.width(max(filled))
    input_ids, attention_mask, token_type_ids, pooling_mask = np.zeros((4, len(rows), width), np.int32)
    for index, (ids, types, special, _) in enumerate(rows):
        length = lengths[index]
        if job.expansion:
            ids += [job.expansion.id] * (filled[index] - length)
            pooling_mask[index, length : filled[index]] = job.expansion.attend
        input_ids[index, : len(ids)] = ids
        attention_mask[index, : len(ids)] = pooling_mask[index, :length] = 1
        pooling_mask[index, : min(length, job.unpooled)] = PROMPT
        if any(types):
            token_type_ids[index, :length] = types
        if job.mask_cls_sep:
            pooling_mask[index, :length][np.array(special, bool)] = 0
    found: dict[str, npt.NDArray[Any]] = {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "token_type_ids": token_type_ids,
        "pooling_mask": pooling_mask,
    }
    if "TOKEN_COUNT" in job.wanted:
        found["TOKEN_COUNT"] = np.array([[count] for _, _, _, count in rows], np.int32)
    if "TOKENS" in job.wanted:
        found["TOKENS"] = np.full(input_ids.shape, b"", object)
        tokens = [job.tokenizer.vocabulary.get(i, b"") for ids, _, _, _ in rows for i in ids]
        found["TOKENS"][attention_mask == 1] = tokens
    if "DECODED_TEXT" in job.wanted:
        texts = job.tokenizer.decode([ids for ids, _, _, _ in rows], job.skip_special_tokens)
        found["DECODED_TEXT"] = np.array([[text.encode()] for text in texts], object)
    return {name: array for name, array in found.items() if name in job.wanted}, len(cut)


def _kept(first: int, second: int, room: int, by_first: bool) -> tuple[int, int]:
    """How many tokens the two sides keep of `first` and `second`; an odd one goes to the first, or to the longer."""
    if first + second <= room:
        return first, second
    half = room // 2
    if min(first, second) > half:
        to_first = by_first or first > second
        return (room - half, half) if to_first else (half, room - half)
    return (first, room - first) if first <= half else (room - second, second)


def _end(ids: list[int], length: int, last: bool) -> list[int]:
    return ids[max(0, len(ids) - length) :] if last else ids[:length]


def _check_text(index: int, value: bytes) -> None:
    if len(value) > MAX_TEXT_BYTES:
        raise Refused(f"text {index}: {len(value)} bytes; a text may have {MAX_TEXT_BYTES} bytes at most")
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise Refused(f"text {index}: not valid UTF-8 ({error.reason} at byte {error.start})") from None
    if not text or text.isspace():
        raise Refused(f"text {index}: empty or blank; there is nothing to encode")


def _tokens(index: int, value: bytes) -> list[Any]:
    """What a tokenized text holds: tokens, or their ids."""
    try:
        tokens: list[Any] = json.loads(value)
        kinds = {*map(type, tokens)} if isinstance(tokens, list) else {object}
        valid = kinds <= {str} or kinds == {int}
        if valid and kinds == {str}:
            "".join(tokens).encode()  # JSON can hold half of a surrogate pair
    except (ValueError, RecursionError):
        valid = False
    if not valid:
        raise Refused(f"text {index}: with is_tokenized a text is one JSON array of token strings, or of token ids")
    if tokens in ([], [PAIR_SEPARATOR]):
        raise Refused(f"text {index}: no tokens; there is nothing to encode")
    return tokens
