import pytest

from client_sdk import AccessDenied, InvalidArgument, ModelNotFound, ServerBusy, ServerError, StepDied
from client_sdk._transport.address import parse_address
from client_sdk._transport.peer import Peer


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        ("INVALID_ARGUMENT", "wrong", InvalidArgument),
        ("INVALID_ARGUMENT", "incomplete string data for inference input 'TEXT', expecting 6 bytes", ServerBusy),
        ("NOT_FOUND", "no such model", ModelNotFound),
        ("UNAVAILABLE", "Exceeds maximum queue size", ServerBusy),
        ("UNAVAILABLE", "This protocol is restricted, expecting header 'triton-grpc-protocol-key'", AccessDenied),
        ("HTTP status 403", "This API is restricted, expecting header 'key'", AccessDenied),
        ("PERMISSION_DENIED", "no", AccessDenied),
        ("UNAUTHENTICATED", "who?", AccessDenied),
        ("NOT_FOUND", "Request for unknown model: 'bert' is not found", ModelNotFound),
        ("INVALID_ARGUMENT", "Request for unknown model: 'bert' is not found", ModelNotFound),
        ("NOT_FOUND", "Request for unknown model: 'bert' has no available versions", ServerBusy),
        ("UNAVAILABLE", "Request for unknown model: 'bert' version 1 is not at ready state", ServerBusy),
        ("INTERNAL", "Stub process 'bert_encoder_0_0' is not healthy.", StepDied),
        ("HTTP status 500", "Stub process 'bert_encoder_0_0' is not healthy.", StepDied),
        ("INTERNAL", "broke", ServerError),
        ("UNKNOWN", "?", ServerError),
    ],
)
def test_a_status_becomes_the_error_that_a_caller_would_treat_differently(status, message, kind):
    peer = Peer(parse_address("host"))
    error = peer.answered(status, message)
    assert type(error) is kind and message in str(error)
    assert getattr(error, "is_loading", False) == ("ready state" in message or "available versions" in message)
    assert peer.reached


def test_what_triton_puts_before_a_message_is_taken_off():
    message = "in ensemble 'bert', [request id: <id_unknown>] text 3: 300 tokens"
    assert str(Peer(parse_address("host")).answered("INVALID_ARGUMENT", message)) == "text 3: 300 tokens"


@pytest.mark.parametrize(("url", "right", "wrong"), [("host", "gRPC", "HTTP"), ("http://host", "HTTP", "gRPC")])
def test_an_unreachable_server_is_named_with_what_to_check(url, right, wrong):
    message = str(Peer(parse_address(url)).unreachable("refused"))
    assert f"cannot reach {parse_address(url)}: is the server running" in message
    assert f"the {right} port" in message and f"not the {wrong} one" in message and "(refused)" in message


def test_a_server_that_answered_before_was_perhaps_stopped():
    peer = Peer(parse_address("host"))
    peer.reached = True
    assert "was it stopped?" in str(peer.unreachable("Socket closed"))


@pytest.mark.parametrize(
    ("has_api_key", "header", "advice"),
    [
        (False, "triton-grpc-protocol-authorization", "it expects a key: give api_key="),
        (False, "authorization", "it expects a key: give api_key="),
        (True, "authorization", "the api_key that was sent is not the one that it expects"),
        (True, "Authorization", "the api_key that was sent is not the one that it expects"),
        (True, "triton-grpc-protocol-closed", "give it through `headers`"),
    ],
)
def test_a_refusal_says_which_key_is_missing(has_api_key, header, advice):
    peer = Peer(parse_address("host"), has_api_key)
    error = peer.answered("UNAVAILABLE", f"This protocol is restricted, expecting header '{header}'")
    assert type(error) is AccessDenied and advice in str(error)


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)", "does this port speak TLS"),
        ("[SSL] record layer failure (_ssl.c:1006)", "does this port speak TLS"),
        ("SSL_ERROR_SSL: error:0A00010B:SSL routines::wrong version number", "does this port speak TLS"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed", "root_certificates"),
        ("Connection refused", "is the server running"),
    ],
)
@pytest.mark.parametrize("scheme", ["https", "grpcs"])
def test_what_is_wrong_with_tls_is_said(scheme, reason, advice):
    assert advice in str(Peer(parse_address(f"{scheme}://host")).unreachable(reason))
