import pytest

from client_sdk import InvalidArgument, VersionChanged
from client_sdk._transport.address import parse_address
from client_sdk._transport.base import InferRequest, Query
from client_sdk._transport.peer import Peer, TooManyTexts


def config(**identities):
    parameters = {f"identity.{name[1:]}": {"string_value": identity} for name, identity in identities.items()}
    return {"name": "bert", "max_batch_size": 64, "parameters": {"hidden_size": {"string_value": "384"}, **parameters}}


@pytest.fixture
def peer():
    return Peer(parse_address("host"))


def learn(peer, config, versions=()):
    """Answers the questions until there is none; returns them."""
    asked = []
    while (query := peer.question("bert")) is not None:
        asked.append(query.kind)
        peer.note(query, config if query.kind == "config" else {"versions": list(versions)})
    return asked


def test_the_only_identity_is_the_models(peer):
    assert learn(peer, config(v3="abc")) == ["config"]
    assert peer.identity("bert", "") == peer.identity("bert", "3") == "abc" and peer.limit("bert") == 64


@pytest.mark.parametrize(("value", "tokens"), [("8192", 8192), ("", None), ("0", None), ("-1", None), ("1e30", None)])
def test_what_a_text_costs_at_most_is_known_where_the_model_says_it(peer, value, tokens):
    learn(peer, {"parameters": {"max_seq_len": {"string_value": value}}})
    assert peer.max_seq_len("bert") == tokens and peer.max_seq_len("other") is None
    peer.note(Query("config", "bert"), config())  # an older export
    assert peer.max_seq_len("bert") is None


def test_of_several_identities_it_is_that_of_the_version_or_of_the_highest_that_is_served(peer):
    assert learn(peer, config(v2="two", v10="ten", v11="eleven"), ["2", "10"]) == ["config", "metadata"]
    assert (peer.identity("bert", ""), peer.identity("bert", "2"), peer.identity("bert", "11")) == (
        "ten",
        "two",
        "eleven",
    )


def test_an_older_export_has_none(peer):
    assert learn(peer, config()) == ["config"] and peer.identity("bert", "") == ""


def test_a_closed_configuration_is_asked_for_once(peer):
    peer.note(Query("config", "bert"), None)
    assert peer.question("bert") is None and peer.limit("bert") is None and peer.identity("bert", "") == ""


def test_a_request_for_whichever_model_is_addressed_to_the_one_that_is_there(peer):
    request = InferRequest("bert", [[b"text"]], ("EMBEDDING",), {"pooling": "cls"})
    assert peer.addressed(request).identity is None and request.sent_parameters() == {"pooling": "cls"}
    learn(peer, config(v1="abc"))
    assert peer.addressed(request).sent_parameters() == {"pooling": "cls", "identity": "abc"}
    for identity, may in (("abc", True), ("xyz", False), ("", False), (None, True)):
        assert peer.may_serve(InferRequest("bert", [[b"text"]], (), identity=identity)) is may


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("identity: the request is for abc, and this is xyz: the model has been replaced", VersionChanged),
        ("in ensemble 'bert', identity: the request is for abc, and this is xyz", VersionChanged),
        ("unknown parameter 'identity'; the parameters are pooling", VersionChanged),
        ("[request id: <id_unknown>] inference request batch-size must be <= 8 for 'bert'", TooManyTexts),
    ],
)
def test_what_contradicts_the_server_is_forgotten_and_so_is_what_a_lost_connection_said(peer, message, kind):
    learn(peer, config(v1="abc"))
    assert type(peer.answered("NOT_FOUND", message)) is kind and peer.question("bert") is not None
    learn(peer, config(v1="abc"))
    peer.answered("INVALID_ARGUMENT", "text 0 is blank")
    assert peer.question("bert") is None
    peer.unreachable("Socket closed")
    assert peer.question("bert") is not None


def test_the_limit_that_a_refusal_names_is_known(peer):
    error = peer.answered("INVALID_ARGUMENT", "inference request batch-size must be <= 8 for 'bert'")
    assert error.limit == 8 and isinstance(error, InvalidArgument)
