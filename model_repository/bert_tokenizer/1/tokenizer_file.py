"""A family's tokenizer.json and settings."""

import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

from request_parameters import Refused, shown
from text_pieces import Cutter
from tokenizers import Encoding, Tokenizer

MAX_ID = (1 << 31) - 1
LEAST_PIECE_BYTES = 1024
BYTES_PER_TOKEN = 8  # more than most texts have, so that one piece is enough for most that are cut

# The prompts for the texts of a kind: the first that the checkpoint has, as sentence-transformers looks for them.
INPUT_TYPES = {"query": ("query",), "document": ("document", "passage", "corpus")}

Special: TypeAlias = tuple[Sequence[int], Sequence[int]]  # ids and types


class Frame(NamedTuple):
    """The special tokens before a text, between the two of a pair, and behind."""

    head: Special
    middle: Special
    tail: Special
    text_types: tuple[int, int]  # the type of the first text's tokens, and of the second's

    def __len__(self) -> int:
        """How many tokens they are."""
        return sum(len(ids) for ids, _ in self[:3])

    def around(self, first: Sequence[int], second: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
        """The ids, the types, and 1 at each special token, of two texts, the second of which may be empty."""
        (head, head_types), (middle, middle_types), (tail, tail_types) = self[:3]
        one, two = self.text_types
        ids = [*head, *first, *middle, *second, *tail]
        types = [*head_types, *[one] * len(first), *middle_types, *[two] * len(second), *tail_types]
        zeros = [0] * len(first), [0] * len(second)
        special = [*[1] * len(head), *zeros[0], *[1] * len(middle), *zeros[1], *[1] * len(tail)]
        return ids, types, special


class Expansion(NamedTuple):
    """What queries are filled up with, behind their last special token."""

    id: int  # of the token
    length: int  # of a query with it, in tokens
    fixed: bool  # whether longer queries are cut to that
    attend: bool  # whether other tokens attend to it


class TokenizerFile:
    """The tokenizer, and the settings of the family's config."""

    def __init__(self, text: str, settings: dict[str, str]) -> None:
        """Read a tokenizer.json, given as text, and the config's parameters.

        Raises ValueError: it is of a kind that this step cannot serve.
        """
        spec = json.loads(text)
        spec["truncation"] = spec["padding"] = None
        self._text = json.dumps(spec)
        self.plain = Tokenizer.from_str(self._text)
        self.vocabulary = {index: token.encode() for token, index in self.plain.get_vocab().items()}
        if max(self.vocabulary) > MAX_ID:
            raise ValueError(f"token id {max(self.vocabulary)}: ids above {MAX_ID} do not fit INT32")
        model = spec["model"]
        unknown = model.get("unk_token")
        self._unknown = self.plain.token_to_id(unknown) if unknown is not None else model.get("unk_id")

        self.max_seq_len = int(settings["max_seq_len"])
        # For a network whose requests share a batch only if S is equal.
        self._multiple = int(settings.get("pad_to_multiple_of", "1"))
        self.truncates_left = settings.get("truncation_side", "right") == "left"
        self.splits_special_tokens = settings.get("split_special_tokens") == "true"  # where a request does not say
        self._prompts: dict[str, str] = json.loads(settings["prompts"])
        self._default_prompt = self._prompts.get(settings["default_prompt_name"], "")

        self.pools_prompts = settings.get("include_prompt", "true") == "true"
        # Where texts of an input_type are cut, those of none by the name of nothing.
        self._lengths: dict[str, int] = json.loads(settings.get("lengths", "{}"))
        expansion = json.loads(settings.get("expansion", "null"))
        self._expansion = Expansion(**expansion) if expansion else None

        self.cutter = Cutter(self.plain, spec, max(LEAST_PIECE_BYTES, BYTES_PER_TOKEN * self.max_seq_len))
        self._frames = {False: self._read_frame(), True: self._read_frame(pair=True)}
        self._bare = Frame(((), ()), ((), ()), ((), ()), (0, 0))

    @cached_property
    def splitting(self) -> Tokenizer:
        """The tokenizer that takes special tokens written in a text for words like any other."""
        tokenizer = Tokenizer.from_str(self._text)
        tokenizer.encode_special_tokens = True
        return tokenizer

    def encode(self, pieces: list[str], split_special_tokens: bool = False) -> list[Encoding]:
        """What the tokenizer makes of each piece, special tokens left out; other threads go on meanwhile."""
        tokenizer = self.splitting if split_special_tokens else self.plain
        return tokenizer.encode_batch_fast(pieces, add_special_tokens=False)

    def decode(self, rows: list[list[int]], skip_special_tokens: bool = True) -> list[str]:
        """The text that each row of ids is read back as, by the tokenizer's own decoder."""
        return self.plain.decode_batch(rows, skip_special_tokens)

    def frame(self, pair: bool, add_special_tokens: bool = True) -> Frame:
        """The special tokens around a text or a pair; a pair cannot do without them."""
        return self._frames[pair] if pair or add_special_tokens else self._bare

    def id_of(self, index: int, token: str) -> int:
        """The id of a token of text `index`, or that of the unknown token."""
        found: int | None = self.plain.token_to_id(token)
        if found is None:
            found = self._unknown
        if found is None:
            raise Refused(
                f"text {index}: the token {shown(token)} is not in the vocabulary, which has no unknown token"
            )
        return found

    def width(self, longest: int) -> int:
        """S of a request whose longest row has so many tokens."""
        return min(-(-longest // self._multiple) * self._multiple, self.max_seq_len)

    def length(self, options: dict[str, Any]) -> int:
        """Where the texts of a request are cut that does not say."""
        return self._lengths.get(options.get("input_type", ""), self.max_seq_len)

    def expansion(self, options: dict[str, Any]) -> Expansion | None:
        """What the texts of a request are filled up with."""
        return self._expansion if options.get("input_type") == "query" else None

    def prompt(self, options: dict[str, Any]) -> str:
        """The text to put before each text of a request."""
        default = "" if options.get("is_tokenized") else self._default_prompt
        if "input_type" in options:
            default = self._prompt_for(options["input_type"])
        if "prompt_name" not in options:
            prompt: str = options.get("prompt", default)
            return prompt
        if "prompt" in options:
            raise Refused("parameters prompt and prompt_name are both given; give one")
        name = options["prompt_name"]
        if name not in self._prompts:
            known = ", ".join(sorted(self._prompts)) or "none"
            raise Refused(f"parameter prompt_name is {shown(name)}; this model's prompts: {known}")
        return self._prompts[name]

    def _prompt_for(self, input_type: str) -> str:
        """The checkpoint's prompt for such texts; none where it has none, whatever its default is."""
        if input_type not in INPUT_TYPES:
            raise Refused(f"parameter input_type is {shown(input_type)}; it takes {' or '.join(INPUT_TYPES)}")
        return next((self._prompts[name] for name in INPUT_TYPES[input_type] if name in self._prompts), "")

    def prompt_length(self, prompt: str, limit: int, split_special_tokens: bool = False) -> int:
        """How many tokens of a row, from the first special one on, sentence-transformers takes for the prompt's.

        That is those of the prompt alone, cut at `limit`, without the special one behind it.
        """
        if not prompt:
            return 0
        frame = self.frame(pair=False)
        ids = self.encode([prompt], split_special_tokens)[0].ids[: limit - len(frame)]
        row, _, _ = frame.around(ids, ())
        return len(row) - (bool(frame.tail[0]) or (bool(row) and row[-1] in self._special))

    @cached_property
    def _special(self) -> set[int]:
        added = self.plain.get_added_tokens_decoder()
        return {index for index, token in added.items() if token.special}

    def _read_frame(self, pair: bool = False) -> Frame:
        """What the tokenizer's post-processor puts around a word, or two."""
        word = next(word for word in ("a", *self.plain.get_vocab()) if self._is_text(word))
        encoding = self.plain.encode(word, word if pair else None)
        parts: list[tuple[list[int], list[int]]] = [([], []), ([], []), ([], [])]
        types = [0, 0]
        place = 0
        for index, type_id, sequence in zip(encoding.ids, encoding.type_ids, encoding.sequence_ids, strict=True):
            if sequence is None:
                parts[place][0].append(index)
                parts[place][1].append(type_id)
            else:
                types[sequence] = type_id
                place = 2 if sequence or not pair else 1
        head, middle, tail = parts
        return Frame(head, middle, tail, (types[0], types[1]))

    def _is_text(self, word: str) -> bool:
        try:
            return bool(self.plain.encode(word, add_special_tokens=False).ids)
        except BaseException:  # tokenizers' PanicException is no Exception
            return False
