"""Text to the ids that BERT reads: a Triton Python-backend step around a Hugging Face tokenizer.

TEXT BYTES [N, 1] (texts) or [N, 2] (pairs) to `input_ids`, `attention_mask`, `token_type_ids`, `pooling_mask` INT32
[N, S], TOKENS BYTES [N, S] and TOKEN_COUNT INT32 [N, 1], the tokens of the whole text before truncation. A request
that is wrong gets INVALID_ARG with the reason; the others of its batch are served.
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

# Every parameter of the family; an ensemble hands each of its steps all of them.
OWN_PARAMETERS = {
    "max_seq_len": int,
    "truncate": bool,
    "is_tokenized": bool,
    "mask_cls_sep": bool,
    "prompt": str,
    "prompt_name": str,
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
    is_tokenized: bool
    mask_cls_sep: bool


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
        self.limit = None

        settings = {k: v["string_value"] for k, v in json.loads(args["model_config"])["parameters"].items()}
        self.max_seq_len = int(settings["max_seq_len"])
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
        """Tokenizes all the requests of a batch, in one encode_batch for each max_seq_len among them."""
        responses = [None] * len(requests)
        by_limit = defaultdict(list)
        for index, request in enumerate(requests):
            try:
                job = self._read(request)
                by_limit[None if job.is_tokenized else job.limit].append((index, job))
            except BadRequest as error:
                responses[index] = _refusal(error)
        for limit, jobs in by_limit.items():
            rows = iter(self._tokenize(limit, [text for _, job in jobs for text in job.texts]) if limit else ())
            for index, job in jobs:
                try:
                    mine = [next(rows) for _ in job.texts] if limit else [self._assemble(t, job) for t in job.texts]
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
        limit = parameters.get("max_seq_len", self.max_seq_len)
        least = 5 if tensor.shape[1] == 2 else 3  # a token of each text, and the special ones
        if not least <= limit <= self.max_seq_len:
            raise BadRequest(
                f"parameter max_seq_len is {limit}; it takes {least} to {self.max_seq_len}, [CLS] and [SEP] included"
            )
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
        return Job(
            texts,
            limit,
            parameters.get("truncate", True),
            is_tokenized,
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

    def _tokenize(self, limit, texts):
        if limit != self.limit:
            self.tokenizer.enable_truncation(limit)
            self.limit = limit
        encodings = self.tokenizer.encode_batch_fast(texts)
        counts = {index: len(encoding) for index, encoding in enumerate(encodings)}
        cut = [index for index, encoding in enumerate(encodings) if encoding.overflowing]
        if cut:
            self.tokenizer.no_truncation()
            self.limit = None
            whole = self.tokenizer.encode_batch_fast([texts[index] for index in cut])
            counts.update(zip(cut, map(len, whole), strict=True))
        return [Row(e.ids, e.type_ids, e.special_tokens_mask, counts[i]) for i, e in enumerate(encodings)]

    def _assemble(self, tokens, job):
        """Adds the special tokens to tokenized input, `|||` between the texts of a pair.

        A single text keeps its first tokens; a pair loses tokens from its longer side, from the second on a tie
        (bert-as-service's rule).
        """
        middle = tokens.index(PAIR_SEPARATOR) if PAIR_SEPARATOR in tokens else len(tokens)
        first, second = tokens[:middle], tokens[middle + 1 :]
        frame = self.alone if middle == len(tokens) else self.together
        count = len(first) + len(second) + len(frame)
        while len(first) + len(second) > job.limit - len(frame):
            (first if len(first) > len(second) else second).pop()
        type_ids = [0] * len(first), [1] * len(second)
        return Row(
            _framed(frame.ids, [self._id(token) for token in first], [self._id(token) for token in second]),
            _framed(frame.type_ids, *type_ids),
            _framed([1] * len(frame), [0] * len(first), [0] * len(second)),
            count,
        )

    def _id(self, token):
        found = self.tokenizer.token_to_id(token)
        return self.unknown if found is None else found

    def _reply(self, job, rows, wanted):
        cut = [index for index, row in enumerate(rows) if row.count > len(row.ids)]
        if cut and not job.truncate:
            raise BadRequest(
                f"text {cut[0]}: {rows[cut[0]].count} tokens, more than max_seq_len {job.limit}; "
                "shorten it, or let it be truncated (parameter truncate)"
            )
        if cut:
            self.truncated.increment(len(cut))
        lengths = np.array([len(row.ids) for row in rows])
        real = np.arange(lengths.max()) < lengths[:, None]

        def padded(values):
            array = np.zeros(real.shape, np.int32)
            array[real] = np.fromiter((v for row in values for v in row), np.int32)
            return array

        attention_mask = real.astype(np.int32)
        outputs = {
            "input_ids": padded(row.ids for row in rows),
            "attention_mask": attention_mask,
            "token_type_ids": padded(row.type_ids for row in rows),
            "pooling_mask": attention_mask,
            "TOKEN_COUNT": np.array([[row.count] for row in rows], np.int32),
        }
        if job.mask_cls_sep:
            outputs["pooling_mask"] = attention_mask - padded(row.special for row in rows)
        if "TOKENS" in wanted:
            tokens = np.full(real.shape, b"", object)
            tokens[real] = [self.vocabulary[i] for row in rows for i in row.ids]
            outputs["TOKENS"] = tokens
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, outputs[name]) for name in outputs if name in wanted])


def _framed(frame, first, second):
    """Puts the tokens of a text, or of two, between the special ones: [CLS] first [SEP] second [SEP]."""
    return [frame[0], *first, *frame[1:-1], *second, frame[-1]]


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
        tokens = json.loads(parts[0])
    except ValueError:
        tokens = None
    if len(parts) != 1 or not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise BadRequest(f"text {index}: with is_tokenized a text is one JSON array of token strings")
    if not tokens:
        raise BadRequest(f"text {index}: no tokens; there is nothing to encode")
    return tokens


def _refusal(error):
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG))
