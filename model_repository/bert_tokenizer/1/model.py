"""Text to the ids that BERT reads: a Triton Python-backend step around a Hugging Face tokenizer.

TEXT BYTES [N, 1] (texts) or [N, 2] (pairs) to `input_ids`, `attention_mask`, `token_type_ids`, `pooling_mask` INT32
[N, S], TOKENS BYTES [N, S] and TOKEN_COUNT INT32 [N, 1], the tokens of the whole text before truncation. A request
that is wrong gets INVALID_ARG with the reason; the others of its batch are served.

The tokenizer itself cuts texts and adds their special tokens, except where bert-as-service's rules are asked for:
tokenized input, and pairs cut its way, are put together by `_assemble`.
"""

import json
import os
from collections import defaultdict
from typing import NamedTuple

import numpy as np
import triton_python_backend_utils as pb_utils
from tokenizers import Tokenizer

MAX_TEXT_BYTES = 1 << 20
PAIR_SEPARATOR = "|||"  # between the two texts of a pair in tokenized input, as in bert-as-service
PAIR_TRUNCATIONS = ("longest_first", "bert_as_service")

# Every parameter of the family; an ensemble hands each of its steps all of them.
OWN_PARAMETERS = {
    "max_seq_len": int,
    "truncate": bool,
    "pair_truncation": str,
    "is_tokenized": bool,
    "add_special_tokens": bool,
    "split_special_tokens": bool,
    "mask_cls_sep": bool,
    "prompt": str,
    "prompt_name": str,
    "bulk": bool,  # of the encoder; checked here, before anything is computed
}
POOLING_PARAMETERS = ("pooling", "normalize", "truncate_dim")
TYPE_NAMES = {int: "an integer", bool: "true or false", str: "a string"}


class BadRequest(Exception):
    """What is wrong with a request, for the one who sent it."""


class Row(NamedTuple):
    """One tokenized text, special tokens included."""

    ids: list
    type_ids: list
    special: list  # 1 at [CLS] and [SEP]
    count: int  # tokens before truncation


class Job(NamedTuple):
    """A request that has been read."""

    texts: list  # str, (str, str) or, if is_tokenized, list[str]
    limit: int
    truncate: bool
    pair_truncation: str
    is_tokenized: bool
    add_special_tokens: bool
    split_special_tokens: bool
    mask_cls_sep: bool

    @property
    def is_assembled(self):
        """Whether `_assemble` puts the texts together, rather than the tokenizer."""
        return self.is_tokenized or (self.pair_truncation == "bert_as_service" and isinstance(self.texts[0], tuple))


class TritonPythonModel:
    """The step itself; Triton calls initialize once and execute with the requests of a batch."""

    def initialize(self, args):
        """Reads tokenizer.json of this version and the family's settings."""
        path = os.path.join(args["model_repository"], args["model_version"], "tokenizer.json")
        if not os.path.exists(path):
            raise pb_utils.TritonModelException(
                f"{path} is missing: fill the model repository with `python -m export CHECKPOINT`"
            )
        self.tokenizer = Tokenizer.from_file(path)
        self.tokenizer.no_padding()
        self.vocabulary = [
            token.encode() for token, _ in sorted(self.tokenizer.get_vocab().items(), key=lambda item: item[1])
        ]
        self.unknown = self.tokenizer.token_to_id(self.tokenizer.model.unk_token)
        self.alone = self.tokenizer.encode("")  # the special tokens around a text
        self.together = self.tokenizer.encode("", "")  # and around a pair
        self.bare = self.tokenizer.encode("", add_special_tokens=False)  # none
        self.limit = None

        settings = {k: v["string_value"] for k, v in json.loads(args["model_config"])["parameters"].items()}
        self.max_seq_len = int(settings["max_seq_len"])
        # For a network whose requests share a batch only if S is equal.
        self.pad_to_multiple_of = int(settings.get("pad_to_multiple_of", "1"))
        self.prompts = json.loads(settings["prompts"])
        self.default_prompt = self.prompts.get(settings["default_prompt_name"], "")

        family = pb_utils.MetricFamily(
            name="bert_truncated_texts_total",
            description="Texts cut at max_seq_len",
            kind=pb_utils.MetricFamily.COUNTER,
        )
        self.metric_family = family  # a Metric lives only as long as its family
        self.truncated = family.Metric(labels={"model": settings["family"]})

    def execute(self, requests):
        """Tokenizes all the requests of a batch, those that are cut and split alike in one encode_batch."""
        responses = [None] * len(requests)
        alike = defaultdict(list)
        for index, request in enumerate(requests):
            try:
                job = self._read(request)
                if job.is_assembled:
                    responses[index] = self._reply(job, self._assemble(job), request.requested_output_names())
                else:
                    alike[job.limit, job.split_special_tokens].append((index, job))
            except BadRequest as error:
                responses[index] = _refusal(error)
        for (limit, split), jobs in alike.items():
            rows = iter(self._tokenize([text for _, job in jobs for text in job.texts], limit, split))
            for index, job in jobs:
                mine = [next(rows) for _ in job.texts]
                try:
                    responses[index] = self._reply(job, mine, requests[index].requested_output_names())
                except BadRequest as error:
                    responses[index] = _refusal(error)
        return responses

    def _read(self, request):
        """Reads a request into a Job, or says what is wrong with it."""
        parameters = json.loads(request.parameters() or "{}")
        for name, value in parameters.items():
            if name in OWN_PARAMETERS and type(value) is not OWN_PARAMETERS[name]:
                raise BadRequest(f"parameter {name} is {value!r}; it takes {TYPE_NAMES[OWN_PARAMETERS[name]]}")
            if name not in OWN_PARAMETERS and name not in POOLING_PARAMETERS:
                known = ", ".join([*OWN_PARAMETERS, *POOLING_PARAMETERS])
                raise BadRequest(f"unknown parameter {name!r}; the parameters are {known}")
        tensor = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()
        if tensor.ndim != 2 or tensor.shape[1] not in (1, 2) or not len(tensor):
            raise BadRequest(f"TEXT has shape {list(tensor.shape)}; it takes [N, 1] for texts or [N, 2] for pairs")
        is_tokenized = parameters.get("is_tokenized", False)
        add_special_tokens = parameters.get("add_special_tokens", True)
        if not (add_special_tokens or is_tokenized):
            raise BadRequest("parameter add_special_tokens is false; that goes together with is_tokenized only")
        # Tokenized input is bert-as-service's own form, so it is cut its way unless the request says otherwise.
        pair_truncation = parameters.get("pair_truncation", PAIR_TRUNCATIONS[is_tokenized])
        if pair_truncation not in PAIR_TRUNCATIONS:
            known = " or ".join(PAIR_TRUNCATIONS)
            raise BadRequest(f"parameter pair_truncation is {pair_truncation!r}; it takes {known}")
        prompt = self._prompt(parameters)
        if is_tokenized and ("prompt" in parameters or "prompt_name" in parameters):
            raise BadRequest("parameter is_tokenized goes without a prompt: put the prompt's tokens into the text")
        texts = []
        for index, row in enumerate(tensor):
            parts = [_decode(index, value) for value in row]
            if is_tokenized:
                texts.append(_tokens(index, parts))
            elif len(parts) == 1:
                texts.append(prompt + parts[0])
            else:
                texts.append((prompt + parts[0], parts[1]))
        limit = parameters.get("max_seq_len", self.max_seq_len)
        least = 3  # a token, [CLS] and [SEP]
        if any(PAIR_SEPARATOR in text if is_tokenized else isinstance(text, tuple) for text in texts):
            least = 4 if pair_truncation == "bert_as_service" else 5  # at 4 the former drops the second text
        if not least <= limit <= self.max_seq_len:
            raise BadRequest(
                f"parameter max_seq_len is {limit}; it takes {least} to {self.max_seq_len}, [CLS] and [SEP] included"
            )
        return Job(
            texts,
            limit,
            parameters.get("truncate", True),
            pair_truncation,
            is_tokenized,
            add_special_tokens,
            parameters.get("split_special_tokens", False),
            parameters.get("mask_cls_sep", False),
        )

    def _prompt(self, parameters):
        if "prompt_name" not in parameters:
            return parameters.get("prompt", self.default_prompt)
        if "prompt" in parameters:
            raise BadRequest("parameters prompt and prompt_name are both given; give one")
        name = parameters["prompt_name"]
        if name not in self.prompts:
            known = ", ".join(sorted(self.prompts)) or "none"
            raise BadRequest(f"parameter prompt_name is {name!r}; this model's prompts: {known}")
        return self.prompts[name]

    def _tokenize(self, texts, limit, split):
        encodings = self._encode(texts, limit, split)
        counts = {index: len(encoding) for index, encoding in enumerate(encodings)}
        cut = [index for index, encoding in enumerate(encodings) if encoding.overflowing]
        if cut:
            whole = self._encode([texts[index] for index in cut], None, split)
            counts.update(zip(cut, map(len, whole), strict=True))
        return [Row(e.ids, e.type_ids, e.special_tokens_mask, counts[i]) for i, e in enumerate(encodings)]

    def _encode(self, texts, limit, split, **options):
        """Runs the tokenizer; with `split`, special tokens written in a text are words like any other."""
        if limit is None:
            self.tokenizer.no_truncation()
        elif limit != self.limit:
            self.tokenizer.enable_truncation(limit)
        self.limit = limit
        self.tokenizer.encode_special_tokens = split
        return self.tokenizer.encode_batch_fast(texts, **options)

    def _assemble(self, job):
        """Cuts the texts of a request and puts the special tokens around them; a pair cannot do without them.

        A single text keeps its first tokens. A pair loses tokens from its longer side, one at a time: on a tie from
        the second text in bert-as-service, and in transformers (longest_first) from the one that was the shorter.
        """
        rows = []
        for first, second in self._halves(job):
            frame = self._frame(job, second)
            count = len(first) + len(second) + len(frame)
            sides = [second, first]  # the one that loses a token on a tie stands first
            if job.pair_truncation == "longest_first" and len(first) <= len(second):
                sides.reverse()
            room = job.limit - len(frame)
            del first[room:], second[room:]
            while len(first) + len(second) > room:
                max(sides, key=len).pop()
            frame = self._frame(job, second)
            rows.append(
                Row(
                    _framed(frame.ids, first, second),
                    _framed(frame.type_ids, [0] * len(first), [1] * len(second)),
                    _framed([1] * len(frame), [0] * len(first), [0] * len(second)),
                    count,
                )
            )
        return rows

    def _halves(self, job):
        """The token ids of each text's two sides; the second side of one that is no pair is empty."""
        if not job.is_tokenized:
            sides = [side for pair in job.texts for side in pair]
            encodings = self._encode(sides, None, job.split_special_tokens, add_special_tokens=False)
            ids = [list(encoding.ids) for encoding in encodings]
            return list(zip(ids[::2], ids[1::2], strict=True))
        halves = []
        for tokens in job.texts:
            middle = tokens.index(PAIR_SEPARATOR) if PAIR_SEPARATOR in tokens else len(tokens)
            ids = [self._id(token) for token in tokens]
            halves.append((ids[:middle], ids[middle + 1 :]))
        return halves

    def _frame(self, job, second):
        if second:
            return self.together
        return self.alone if job.add_special_tokens else self.bare

    def _id(self, token):
        found = self.tokenizer.token_to_id(token)
        return self.unknown if found is None else found

    def _width(self, longest):
        """S of a request whose longest row has so many tokens."""
        multiple = self.pad_to_multiple_of
        return min(-(-longest // multiple) * multiple, self.max_seq_len)

    def _reply(self, job, rows, wanted):
        cut = [index for index, row in enumerate(rows) if row.count > len(row.ids)]
        if cut and not job.truncate:
            raise BadRequest(
                f"text {cut[0]}: {rows[cut[0]].count} tokens, more than max_seq_len {job.limit}; "
                "shorten it, or let it be truncated (parameter truncate)"
            )
        if cut:
            self.truncated.increment(len(cut))
        width = self._width(max(len(row.ids) for row in rows))
        input_ids, attention_mask, token_type_ids, pooling_mask = np.zeros((4, len(rows), width), np.int32)
        for index, row in enumerate(rows):
            length = len(row.ids)
            input_ids[index, :length] = row.ids
            attention_mask[index, :length] = 1
            token_type_ids[index, :length] = row.type_ids
            pooling_mask[index, :length] = 1
            if job.mask_cls_sep:
                pooling_mask[index, :length] -= row.special
        outputs = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids,
            "pooling_mask": pooling_mask,
            "TOKEN_COUNT": np.array([[row.count] for row in rows], np.int32),
        }
        if "TOKENS" in wanted:
            tokens = np.full(input_ids.shape, b"", object)
            tokens[attention_mask == 1] = [self.vocabulary[i] for row in rows for i in row.ids]
            outputs["TOKENS"] = tokens
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, outputs[name]) for name in outputs if name in wanted])


def _framed(frame, first, second):
    """Puts the tokens of a text, or of two, between the special ones: [CLS] first [SEP] second [SEP]."""
    return [*frame[:1], *first, *frame[1:-1], *second, *frame[-1:]]


def _decode(index, value):
    if len(value) > MAX_TEXT_BYTES:
        raise BadRequest(f"text {index}: {len(value)} bytes; a text may have {MAX_TEXT_BYTES} bytes at most")
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"text {index}: not valid UTF-8 ({error.reason} at byte {error.start})") from None
    if not text.strip():
        raise BadRequest(f"text {index}: empty or blank; there is nothing to encode")
    return text


def _tokens(index, parts):
    try:
        tokens = json.loads(parts[0]) if len(parts) == 1 else None
        valid = isinstance(tokens, list) and all(isinstance(token, str) for token in tokens)
        if valid:
            "".join(tokens).encode()  # JSON can hold half of a surrogate pair
    except (ValueError, RecursionError):
        valid = False
    if not valid:
        raise BadRequest(f"text {index}: with is_tokenized a text is one JSON array of token strings")
    if tokens in ([], [PAIR_SEPARATOR]):
        raise BadRequest(f"text {index}: no tokens; there is nothing to encode")
    return tokens


def _refusal(error):
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG))
