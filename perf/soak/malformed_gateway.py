"""Requests that no client should send, to the gateway's routes in their own forms, the same ones for the same seed."""

from __future__ import annotations

import copy
import json
from typing import Any

from perf.soak.malformed import BAD_UTF8, NUMBERS, STRINGS, Generator, HttpRequest

TEXTS = ["a text", "another text"]
RIGHT: dict[str, dict[str, Any]] = {
    "/v1/embeddings": {
        "model": "bert",
        "input": TEXTS,
        "encoding_format": "base64",
        "dimensions": 8,
        "truncate": "END",
    },
    "/embeddings": {"input": "a text", "input_type": "query", "embedding_type": "ubinary"},
    "/v1/ranking": {"query": {"text": "a text"}, "passages": [{"text": text} for text in TEXTS], "truncate": "NONE"},
    "/v2/embed": {"texts": TEXTS, "input_type": "search_query", "embedding_types": ["float"], "output_dimension": 8},
    "/v2/rerank": {"query": "a text", "documents": TEXTS, "top_n": 1, "return_documents": True},
    "/v1/rerank": {"query": "a text", "documents": [{"text": text} for text in TEXTS]},
    "/rerank": {"query": "a text", "texts": TEXTS, "raw_scores": True, "return_text": True, "truncate": True},
    "/embed": {"inputs": TEXTS, "truncate": True, "truncation_direction": "right", "normalize": False, "dimensions": 8},
    "/": {"inputs": TEXTS, "prompt_name": None},
    "/embed_all": {"inputs": "a text", "truncate": True},
    "/embed_sparse": {"inputs": TEXTS},
    "/similarity": {"inputs": {"source_sentence": "a text", "sentences": TEXTS}, "parameters": {"truncate": True}},
    "/predict": {"inputs": [["a text"], TEXTS], "raw_scores": False, "model": "sentiment"},
    "/tokenize": {"inputs": TEXTS, "add_special_tokens": True},
    "/decode": {"ids": [[101, 1996, 4419, 102], [1996]], "skip_special_tokens": True},
    "/encode": {"id": 1, "texts": TEXTS, "is_tokenized": False},
    "/vectors": {"text": "a text", "config": {"task_type": "query"}},
    "/page/tokens": {"inputs": TEXTS},
}
ELSEWHERE = (
    *("/v1", "/v1/models/x", "/v1/models/../../etc/passwd", "/v1/models/%00", "/v1//embeddings", "/page/../keys"),
    *("/%ff", "/encode/", "/status", "/v2/models/bert/infer", "/metrics/x", "/" + "x" * 5000, "/?" + "x" * 5000),
)
HEADERS: tuple[dict[str, str], ...] = (
    {"Content-Encoding": "gzip"},
    {"Content-Type": "application/x-www-form-urlencoded"},
    {"Content-Type": "nonsense"},
    {"Content-Type": "application/json; charset=utf-16"},
    {"Authorization": "Bearer " + "x" * 9000},
    {"Authorization": "Basic \xff"},
    {"Accept": "image/png", "Accept-Encoding": "gzip;q=x,,"},
    {"Expect": "100-continue"},
    {"Origin": "https://example.com", "Access-Control-Request-Method": "POST"},
    {"traceparent": "00-" + "z" * 500},
    {"X-Long": "x" * 20_000},
)


class GatewayGenerator(Generator):
    """Makes them; `next_http` as often as is wanted."""

    def _mutated(self) -> HttpRequest:
        path = self._chance.choice([*RIGHT])
        fields = copy.deepcopy(RIGHT[path])
        for _ in range(self._chance.choice([1, 1, 2])):
            self._change(fields)
        return HttpRequest("POST", path, {}, json.dumps(fields).encode())

    def _change(self, value: dict[str, Any] | list[Any]) -> None:
        """Change something in it, or in what is in it: left out, of another kind, twice, too much or too deep."""
        keys: list[Any] = [*value] if isinstance(value, dict) else [*range(len(value))]
        if not keys or self._chance.random() < 0.1:
            self._add(value)
            return
        key = self._chance.choice(keys)
        inner = value[key]
        if isinstance(inner, dict | list) and self._chance.random() < 0.5:
            self._change(inner)
            return
        choice = self._chance.randrange(8)
        if choice == 0:
            del value[key]
        elif choice == 1:
            value[key] = [inner]
        elif choice == 2:
            value[key] = {"text": inner}
        elif choice == 3:
            value[key] = [inner] * self._chance.choice([3, 100, 2049])
        else:
            value[key] = self._value()

    def _add(self, value: dict[str, Any] | list[Any]) -> None:
        if isinstance(value, list):
            value.append(self._value())
        else:
            name = self._chance.choice(["model", "inputs", "input", "texts", "documents", "truncate", "", "\0", "user"])
            value[name] = self._chance.choice([*NUMBERS, *STRINGS, "nothing", "bert:99", "bert-query", "splade"])

    def _binary(self) -> HttpRequest:
        """JSON with bytes in it that are no text."""
        whole = self._mutated()
        place = self._chance.randrange(len(whole.body))
        return HttpRequest(
            "POST", whole.path, {}, whole.body[:place] + self._chance.choice(BAD_UTF8) + whole.body[place:]
        )

    def _no_json(self) -> HttpRequest:
        bodies = [
            b"",
            b"{",
            b"null",
            b"[]",
            b'"text"',
            b"NaN",
            b"\xff\xfe",
            b"[" * 100_000,
            b'{"inputs": ' + b"[" * 2000,
        ]
        bodies += [b'{"a": 1' * 500, self._noise(3000), b'\xef\xbb\xbf{"inputs": "a"}', b"{}" * 2, b" " * 100_000]
        return HttpRequest("POST", self._chance.choice([*RIGHT]), {}, self._chance.choice(bodies))

    def _cut_short(self) -> HttpRequest:
        whole = self._mutated()
        return HttpRequest("POST", whole.path, {}, whole.body, self._chance.randrange(len(whole.body)))

    def _elsewhere(self) -> HttpRequest:
        path = self._chance.choice([*ELSEWHERE, *RIGHT])
        method = self._chance.choice(["POST", "GET", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "NONSENSE"])
        return HttpRequest(method, path, {}, b"" if method == "HEAD" else b"{}")

    def _headers(self) -> HttpRequest:
        whole = self._mutated()
        return HttpRequest("POST", whole.path, dict(self._chance.choice(HEADERS)), whole.body)
