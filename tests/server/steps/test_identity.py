"""A request that names the model that it is for gets that model's answer or an error, from each step."""

import contextlib
import shutil

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from client_sdk import Client, LocalServer, ServerStartError, VersionChanged
from tests.conftest import fill
from tests.support.checkpoints.families import identities
from tests.support.checkpoints.folders import write_bert
from tests.support.servers.local_servers import free_ports
from tests.support.servers.triton_requests import infer

TEXT = np.array([[b"a text"]], object)
IDS = {
    name: np.array([[101, 1037, 102]] if name == "input_ids" else [[1, 1, 1]], np.int32)
    for name in ("input_ids", "attention_mask", "token_type_ids", "pooling_mask")
}
MODELS = [
    ("bert", {"TEXT": TEXT}, "EMBEDDING"),
    ("bert_tokens", {"TEXT": TEXT}, "TOKEN_EMBEDDING"),
    ("bert_tokenizer", {"TEXT": TEXT}, "input_ids"),
    ("bert_encoder", IDS, "pooled"),
    ("bert_pooling", {"pooled": np.ones((1, 4, 384), np.float32)}, "EMBEDDING"),
]


@pytest.fixture(scope="module")
def raw(server):
    with triton.InferenceServerClient(server.grpc_url.removeprefix("grpc://")) as client:
        yield client


@pytest.fixture(scope="module")
def identity(repository):
    return identities(repository)["identity.1"]


@pytest.mark.parametrize(("model", "inputs", "output"), MODELS, ids=[model for model, _, _ in MODELS])
def test_every_model_compares_the_identity_that_a_request_names(raw, identity, model, inputs, output):
    if model == "bert_pooling":
        inputs = {**inputs, "pooler_output": np.ones((1, 384), np.float32)}
    right = infer(raw, model, inputs, [output], {"identity": identity})
    np.testing.assert_array_equal(right[output], infer(raw, model, inputs, [output])[output])
    for wrong in ("0" * 32, identity[:-1], identity.upper(), ""):
        with pytest.raises(InferenceServerException, match=rf"NOT_FOUND.*identity: .* this is {identity}"):
            infer(raw, model, inputs, [output], {"identity": wrong})


def test_the_client_says_which_model_it_has_met(server, repository, identity):
    for url in (server.grpc_url, server.http_url):
        with Client(url) as client:
            assert client.info().identity == identity
        with Client(url, model="small") as client:
            assert client.info().identity == identities(repository, "small")["identity.1"] != identity


@pytest.fixture(scope="module")
def two_models(tmp_path_factory):
    """Repositories of the family `bert` with other weights, but the same shapes, settings and version number."""
    folder = tmp_path_factory.mktemp("two_models")
    for name, seed in (("one", 1), ("two", 2)):
        write_bert(folder / name, seed=seed)
        fill(folder / f"with-{name}", folder / name, "bert")
    return folder / "with-one", folder / "with-two"


def test_servers_of_two_models_do_not_mix_in_one_call(two_models):
    texts = [f"hello world {number}" for number in range(600)]
    with LocalServer(two_models[0]) as one, LocalServer(two_models[1]) as two:
        with Client(one.grpc_url) as client:
            expected = client.encode(texts)
        for first, second in ((one.grpc_url, two.grpc_url), (one.http_url, two.http_url)):
            with Client([first, second]) as client:
                try:
                    vectors = client.encode(texts, batch_size=8)
                except VersionChanged:
                    continue
                others = ~np.isclose(vectors, expected, atol=1e-5).all(axis=1)
                assert others.all() or not others.any()


@pytest.mark.parametrize(("protocol", "method"), [("grpc", "encode"), ("http", "encode"), ("grpc", "encode_tokens")])
def test_a_server_that_comes_back_with_another_model_does_not_mix_them(two_models, protocol, method):
    http_port, grpc_port, metrics_port = free_ports()
    ports = {"http_port": http_port, "grpc_port": grpc_port, "metrics_port": metrics_port}
    url = f"{protocol}://localhost:{grpc_port if protocol == 'grpc' else http_port}"
    with Client(url, timeout=300) as client, contextlib.ExitStack() as running:
        running.enter_context(LocalServer(two_models[0], **ports))

        def texts():
            yield from ["hello world"] * 8192
            running.close()
            running.enter_context(LocalServer(two_models[1], **ports))
            yield from ["hello world"] * 8192

        with pytest.raises(VersionChanged):
            getattr(client, method)(texts())
        assert client.encode("hello world").shape == (32,)


@pytest.mark.parametrize("step", ["tokenizer", "encoder", "pooling"])
def test_files_of_another_export_than_the_configs_are_not_served(two_models, tmp_path, step):
    """As when an export replaces the family after Triton has read the configs, and before a step has read its files."""
    shutil.copytree(two_models[0], tmp_path / "models", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.rmtree(tmp_path / f"models/bert_{step}/1")
    shutil.copytree(two_models[1] / f"bert_{step}/1", tmp_path / f"models/bert_{step}/1")
    with pytest.raises(
        ServerStartError, match=rf"bert_{step}/1/identity is \w+, and config.pbtxt says .*start the server"
    ):
        LocalServer(tmp_path / "models").start()
