"""What the SDK, export and the steps each say for themselves, since none imports another, they say alike."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from google.protobuf import json_format, text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

import client_sdk
import export
import export.__main__
import perf
from client_sdk import _kinds, _settings
from client_sdk._call import kinds as answers
from client_sdk._call import options, plan, questions
from client_sdk._commands import serve
from client_sdk._commands.main import _parser as sdk_parser
from client_sdk._server.repository import families
from client_sdk._transport import known, peer, retry
from client_sdk._transport.address import DEFAULT_PORTS
from client_sdk._transport.base import InferRequest, Query
from client_sdk.bert_as_service import _arguments as bert_as_service
from export import poolings
from export.checkpoint import cross_encoder, late_interaction, modules, sentence_transformers
from export.checkpoint.late_interaction import Expansion, LateInteraction
from export.network import layout
from export.repository import configs, encoder_config, family
from perf import serving, texts
from perf.soak import malformed
from tests.support import step_models
from tests.support.checkpoints.families import MINILM
from tests.support.places import ROOT

SDK, EXPORT, PERF = (Path(package.__file__).parent for package in (client_sdk, export, perf))


@cache
def step(name: str) -> dict[str, ModuleType]:
    """The modules of a step, by name."""
    return step_models.load(name)


def strings(*folders: Path) -> Iterator[str]:
    """All string literals of Python files, or of those in folders; the parts of f-strings each."""
    for folder in folders:
        for path in folder.rglob("*.py") if folder.is_dir() else [folder]:
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value


def keys_read(folder: Path, name: str) -> set[str]:
    """The literal keys with which a mapping of this name is read, by `name["key"]` or `name.get("key")`."""
    found = set()
    for path in folder.glob("*.py"):
        found |= {*re.findall(rf'\b{name}(?:\[|\.get\()"(\w+)"', path.read_text("utf-8"))}
    return found


def config_of(role: str, of: family.Family = MINILM) -> ModelConfig:
    return text_format.Parse(configs.configs(of)[f"{of.name}{role}"], ModelConfig())


# names


def test_a_family_has_the_same_models_everywhere():
    committed = {
        path.parent.name.removeprefix(family.TEMPLATE_NAME) for path in configs.TEMPLATE.glob("*/config.pbtxt")
    }
    assert {*family.ROLES} <= committed
    assert {family.TEMPLATE_NAME + role for role in family.ROLES} == {*malformed.FAMILY}
    for folder in (SDK, EXPORT, PERF, configs.TEMPLATE):
        roles = {text for text in strings(folder) if re.fullmatch(r"_(tok|enc|pool)[a-z]*", text)}
        assert roles <= {*family.ROLES}, folder
    roles = {kind.role for kind in vars(answers).values() if isinstance(kind, answers.AnswerKind)}
    assert roles == {"", "_tokens", "_tokenizer"} <= {*family.ROLES}


def test_a_family_that_nobody_names_is_the_same_everywhere():
    export_default = export.__main__.parser().get_default("name")
    names = {family.TEMPLATE_NAME, export_default, _settings.DEFAULT_MODEL, serve._DEFAULT_MODEL}
    names |= {inspect.signature(texts.load_tokenizer).parameters["model"].default}
    assert names == {"bert"}


def test_an_identity_is_read_where_it_is_written():
    assert known._IDENTITY == families._IDENTITY == configs.IDENTITY
    for folder in (EXPORT, *(configs.TEMPLATE / f"bert_{name}" / "1" for name in step_models.STEPS)):
        assert families._IDENTITY_FILE in {*strings(folder)}
    for name in step_models.STEPS:
        assert configs.IDENTITY in {*strings(configs.TEMPLATE / f"bert_{name}" / "1")}
    assert known.identities({"parameters": {f"{configs.IDENTITY}3": {"string_value": "abc"}}}) == {"3": "abc"}


def test_ranges_are_read_where_they_are_written():
    assert questions._RANGES == configs.RANGES


def test_ports_are_tritons_own_everywhere():
    http, grpc, metrics = 8000, 8001, 8002
    assert {"grpc": grpc, "grpcs": grpc, "http": http, "https": http} == DEFAULT_PORTS
    assert {"grpc": grpc, "http": http} == serving.PORTS
    assert f"localhost:{grpc}" == _settings.DEFAULT_URL
    assert bert_as_service.server_url("elsewhere", None) == f"grpc://elsewhere:{grpc}"
    serving_here = sdk_parser("client_sdk", {}).parse_args(["serve", "--model-repository", "models"])
    assert (serving_here.http_port, serving_here.grpc_port, serving_here.metrics_port) == (http, grpc, metrics)
    for dockerfile in ("Dockerfile", "Dockerfile.cpu"):
        assert f"EXPOSE {http} {grpc} {metrics}" in (ROOT / "docker" / dockerfile).read_text("utf-8")
    assert f'"server:{metrics}"' in (ROOT / "docker/prometheus/prometheus.yaml").read_text("utf-8")


# vectors


def test_poolings_are_the_same_in_the_same_order():
    vectors = step("pooling")["vectors"]
    assert (*poolings.POOLINGS, poolings.POOLER) == options.POOLINGS
    assert vectors.POOLINGS == poolings.POOLINGS and step("pooling")["embedding"].POOLER == (poolings.POOLER,)
    assert {*sentence_transformers._POOLING_FLAGS.values()} <= {*poolings.POOLINGS}
    of_bert = ("mean", "max", "mean_max", "cls", "last", "pooler")
    assert {*bert_as_service.POOLINGS.values()} == {*bert_as_service.POOLING_NUMBERS} == {None, *of_bert}
    assert {*of_bert} <= {*options.POOLINGS}


def test_a_pooling_takes_the_reductions_that_the_network_puts_there():
    assert step("pooling")["vectors"].REDUCTIONS == layout.REDUCTIONS
    assert {part for parts in poolings.POOLINGS.values() for part in parts} == {
        *layout.REDUCTIONS,
        *layout.MORE_REDUCTIONS,
    }
    assert {*step("pooling")["vectors"].ACTIVATIONS} == {*modules._ACTIVATIONS.values()}


def test_inputs_of_the_network_are_the_same_in_the_same_order():
    assert step("encoder")["jobs"].INPUTS == layout.INPUTS
    assert {*layout.OF_TOKENS} == step("encoder")["jobs"].OF_TOKENS
    assert tuple(tensor.name for tensor in config_of("_encoder").input) == layout.INPUTS
    assert tuple(tensor.name for tensor in config_of("_tokenizer").output)[: len(layout.INPUTS)] == layout.INPUTS


def test_limits_of_the_network_are_read_where_they_are_written():
    read = keys_read(configs.TEMPLATE / "bert_encoder" / "1", "limits")
    written = {"vocab_size", "type_vocab_size", "max_position_embeddings", "pooling_values"}
    assert read == written <= {*strings(EXPORT / "network")}
    assert step("tokenizer")["token_rows"].PROMPT == layout.PROMPT


# scores


def test_activations_are_the_same_in_the_same_order():
    scores = step("pooling")["scores"]
    assert options.ACTIVATIONS == family.ACTIVATIONS == tuple(scores.ACTIVATIONS)
    assert {*cross_encoder._ACTIVATIONS.values(), *cross_encoder._OF_PROBLEMS.values()} == {*family.ACTIVATIONS}


def test_a_client_says_of_each_kind_of_family_what_it_gives():
    pooling = step("pooling")
    dense, scores, sparse, multi, lexical = (
        pooling["embedding"].Embedding,
        pooling["scores"].Scores,
        pooling["sparse"].Sparse,
        pooling["multi"].Multi,
        pooling["lexical"].Lexical,
    )
    assert {*dense.outputs, *scores.outputs} == {*peer._OUTPUTS}
    assert {"", *_kinds._PARTS} == {*family.ALL_ROLES}
    for of, kinds in (
        (EVERYTHING, {"": dense}),
        (CLASSIFIER, {"": scores}),
        (SPARSE, {"_sparse": sparse}),
        (MULTI, {"_multi": multi}),
        (M3, {"": dense, "_sparse": lexical, "_multi": multi}),
    ):
        assert of.ensemble == of.name + next(iter(kinds))
        for role, kind in kinds.items():
            config = config_of(role, of)
            assert [output.name for output in config.output] == [*kind.outputs, "TOKEN_COUNT"]
            assert kind.reads in config.ensemble_scheduling.step[2].input_map
        of_all = [output for kind in kinds.values() for output in kind.outputs]
        assert [output.name for output in config_of("_pooling", of).output] == of_all
        assert all(tensor.optional == (len(kinds) > 1) for tensor in config_of("_pooling", of).input)


def test_a_client_tells_the_kinds_of_a_family_by_what_export_writes_into_its_last_step():
    assert family.ANSWERING == _kinds.ROLES
    assert {mark for kind in _kinds._KINDS for mark in kind.marks} == {*step("pooling")["model"].KINDS}
    for of, kinds in zip(
        KINDS,
        (
            {_kinds.DENSE: 8},
            {_kinds.SCORES: None},
            {_kinds.SPARSE: 9},
            {_kinds.MULTI: 8},
            {_kinds.DENSE: 8, _kinds.SPARSE: 10, _kinds.MULTI: 4},
        ),
        strict=True,
    ):
        parameters = {name: value.string_value for name, value in config_of("_pooling", of).parameters.items()}
        assert _kinds.kinds_of(parameters) == (*kinds,)
        assert [of.name + kind.role for kind in kinds] == [of.name + role for role in of.answers]
        for kind, dimension in kinds.items():
            assert dimension is None or kind.dimension(parameters) == dimension


def test_what_a_text_costs_at_most_is_read_where_it_is_written():
    for kind in KINDS:
        for role in kind.roles:
            if role in ("_encoder", "_pooling"):  # which no client asks for answers
                continue
            is_ensemble = role != "_tokenizer"  # which counts tokens, and computes none
            check_longest(config_of(role, replace(kind, max_seq_len=8192, prompts={})), 0)
            check_longest(
                config_of(role, replace(kind, max_seq_len=8192, prompts={"a": "1", "b": "22"})), 2 * is_ensemble
            )


def check_longest(config: ModelConfig, prompt: int) -> None:
    peer = known.Known()
    peer.note(Query("config", "x"), json_format.MessageToDict(config, preserving_proto_field_name=True))
    assert (peer.max_seq_len("x"), peer.prompt_length("x")) == (8192, prompt)


def test_a_queue_waits_as_long_for_long_texts_whoever_keeps_it():
    reading = step("encoder")["reading"]
    found = (reading.USUAL_TOKENS, reading.SECONDS_PER_TOKEN)
    assert found == (encoder_config.USUAL_TOKENS, encoder_config.SECONDS_PER_TOKEN)
    # A client waits for the four requests that it keeps on their way.
    assert found[1] == plan.IN_FLIGHT * retry.SECONDS_PER_THOUSAND_TOKENS / 1000


# settings


EVERYTHING = replace(
    MINILM,
    default_prompt_name="query",
    prompts={"query": "find "},
    reductions=(*layout.REDUCTIONS, "weightedmean"),
    stages=("tanh",),
    stages_size=8,
    include_prompt=False,
    similarity="dot",
    pad_to_multiple_of=8,
    truncation_side="left",
    split_special_tokens=True,
    cache_bytes=1 << 20,
)
_OTHER = replace(EVERYTHING, pooling="")
CLASSIFIER = replace(_OTHER, labels=("no", "yes"), activation="softmax")
SPARSE = replace(_OTHER, splade="max relu", vocab_size=9, max_active_dims=5)
MULTI = replace(
    _OTHER,
    similarity="maxsim",
    multi=LateInteraction(8, "identity normalize", {"query": 9}, Expansion(4, 9), skip_ids=(1, 2)),
)
M3 = replace(
    EVERYTHING, lexical=(0, 2), vocab_size=10, multi=LateInteraction(4, "identity normalize", skips_first=True)
)
KINDS = (EVERYTHING, CLASSIFIER, SPARSE, MULTI, M3)


@pytest.mark.parametrize(
    ("of", "call"),
    [
        (MINILM, "client_sdk.encode"),
        (CLASSIFIER, "client_sdk.Client().classify"),
        (SPARSE, "client_sdk.Client().encode_sparse"),
        (MULTI, "client_sdk.Client().encode_multi"),
        (M3, "client_sdk.encode"),
    ],
    ids=["vectors", "scores", "sparse", "multi", "several"],
)
def test_serve_suggests_what_the_family_that_it_serves_can_do(tmp_path: Path, of: family.Family, call: str):
    for name, text in configs.configs(of).items():
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "config.pbtxt").write_text(text)
    server = SimpleNamespace(model_repository=tmp_path, grpc_url="grpc://127.0.0.1:8001", asks_for_key=False)
    suggested = serve._example(server, SimpleNamespace(tls_cert=None))  # type: ignore[arg-type]
    assert suggested[-1].strip() == f'{call}(["First do it", "then do it right"])'
    encrypted = serve._example(server, SimpleNamespace(tls_cert="cert.pem"))  # type: ignore[arg-type]
    assert f").{call.rpartition('.')[2]}(" in encrypted[-1]


@pytest.mark.parametrize("role", [f"_{name}" for name in step_models.STEPS])
def test_a_step_reads_the_settings_that_export_writes(role):
    written = {key for of in KINDS for key in config_of(role, of).parameters}
    read = keys_read(configs.TEMPLATE / f"bert{role}" / "1", "settings")
    of_clients = {"dimension", "layers", "similarity", *step("pooling")["model"].KINDS}
    of_clients |= {f"{kind}_dimension" for kind in ("sparse", "multi")}
    assert read | (of_clients if role == "_pooling" else set()) == written


def test_a_client_reads_settings_that_export_writes():
    written = {n for role in ("_tokenizer", "_pooling") for of in KINDS for n in config_of(role, of).parameters}
    read = keys_read(SDK, "parameters") | keys_read(SDK / "_call", "parameters")
    assert {"dimension", "layers", "max_seq_len", "prompts", "default_prompt_name"} <= read
    assert read <= written | {*step("tokenizer")["request_parameters"].TYPES}  # a request's are read too


# parameters of a request


def of_the_sdk() -> dict[str, Any]:
    """Every parameter that a client can send, with a value."""
    found = options.request_parameters(
        pooling="mean",
        normalize=True,
        truncate_dim=1,
        max_seq_len=3,
        truncate=False,
        truncation_side="left",
        pair_truncation="longest_first",
        split_special_tokens=True,
        skip_special_tokens=False,
        mask_cls_sep=True,
        prompt="a",
        priority="bulk",
    )
    found |= options.request_parameters(is_tokenized=True, add_special_tokens=False)
    found |= options.request_parameters(input_type="query")
    found |= options.request_parameters(prompt_name="a", activation="none", max_active_dims=1)
    return dict(InferRequest("bert", [], (), found, identity="x").sent_parameters())


def test_parameters_of_a_request_have_the_same_names_and_types():
    types = step("tokenizer")["request_parameters"].TYPES
    assert {name: type(value) for name, value in of_the_sdk().items()} == types
    assert {*types} <= {*malformed.PARAMETERS}
    for name in ("encoder", "pooling"):
        read = keys_read(configs.TEMPLATE / f"bert_{name}" / "1", "parameters")
        assert "identity" in read and read <= {*types}
    documented = {
        *re.findall(r"`(\w+)`", "".join(re.findall(r"(?m)^\| (`[^|]*) \|", documented_table("| parameter | values |"))))
    }
    assert documented - {"timeout"} == {*types}  # which is Triton's own


def documented_table(header: str) -> str:
    """The table in docs/protocol.md that begins so."""
    return (ROOT / "docs/protocol.md").read_text("utf-8").partition(header)[2].partition("\n\n")[0]


def test_pairs_are_cut_in_the_same_ways():
    assert step("tokenizer")["token_rows"].PAIR_TRUNCATIONS == options.PAIR_TRUNCATIONS
    assert step("tokenizer")["token_rows"].TRUNCATION_SIDES == options.TRUNCATION_SIDES


def test_texts_are_of_the_same_kinds():
    assert (*step("tokenizer")["tokenizer_file"].INPUT_TYPES,) == options.INPUT_TYPES == late_interaction.INPUT_TYPES


# what the steps say each for itself


def test_each_step_compares_the_identity_of_its_files_with_the_configs_in_the_same_way():
    sources = {inspect.getsource(step(name)["model"]._identity) for name in step_models.STEPS}
    assert len(sources) == 1


def test_each_step_notices_in_the_same_way_that_it_stood_still():
    assert len({Path(step(name)["stalls"].__file__).read_text() for name in step_models.STEPS}) == 1


IDENTITY = "0123456789abcdef" * 2
REQUESTS = [
    "",
    "{}",
    '{"pooling": "mean"}',
    f'{{"identity": "{IDENTITY}"}}',
    '{"identity": ""}',
    '{"identity": "\\ud800"}',
]
REQUESTS += [f'{{"identity": "{other}"}}' for other in (IDENTITY[:-1], IDENTITY.upper(), "é", "0" * 32)]
DAMAGED = [
    '{"identity": 5}',
    '{"identity": null}',
    '{"identity": true}',
    f'{{"identity": "{"x" * 999}"}}',
    "{",
    "x",
    "\0",
]


def outcome(call: Any, *arguments: Any) -> tuple[str, ...]:
    """How a step ends with a request: it goes on to the tensors, or with an error of this code and text."""
    try:
        call(*arguments)
    except step_models.TensorWanted:
        return ("goes on",)
    except Exception as error:
        return getattr(error, "code", type(error).__name__), str(error)
    return ("goes on",)


def by_the_encoder(raw: Any, identity: str | None) -> tuple[str, ...]:
    reader = object.__new__(step("encoder")["reading"].Reader)
    reader.identity = identity
    return outcome(reader.read, SimpleNamespace(parameters=raw))


def by_the_pooling(raw: Any, identity: str | None) -> tuple[str, ...]:
    model = step("pooling")["model"].TritonPythonModel()
    model.identity = identity
    kind = step("pooling")["embedding"].Embedding({"pooling": "mean", "normalize": "true"}, ["pooled"], "")
    return outcome(model._compute, kind, SimpleNamespace(parameters=raw))


def by_the_tokenizer(raw: Any, identity: str | None) -> tuple[str, ...]:
    return outcome(step("tokenizer")["request_parameters"].read, raw(), identity)


@pytest.mark.parametrize("identity", [IDENTITY, None])
@pytest.mark.parametrize("raw", [*REQUESTS, *DAMAGED], ids=lambda raw: ascii(raw)[:40])
def test_the_encoder_and_the_pooling_read_parameters_in_the_same_way(raw, identity):
    found = by_the_encoder(lambda: raw, identity)
    assert found == by_the_pooling(lambda: raw, identity)
    if raw in REQUESTS and "\\ud800" not in raw:
        assert found == by_the_tokenizer(lambda: raw, identity)
    assert found[0] in ("goes on", "NOT_FOUND", "INVALID_ARG")
    assert ("goes on" in found) or len(found[1]) < 300


def test_parameters_that_are_no_utf8_are_refused_in_the_same_way():
    def raw() -> str:
        return b"\xff".decode()

    found = by_the_encoder(raw, IDENTITY)
    assert found == by_the_pooling(raw, IDENTITY) and found[0] == "INVALID_ARG"
