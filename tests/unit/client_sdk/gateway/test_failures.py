"""Errors as callers see them: a status, and words that name nothing behind the gateway."""

import pytest

import client_sdk
from client_sdk.gateway.failures import STATUSES, Failure, failure_of

ADDRESS = "grpc://10.1.2.3:8001"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (client_sdk.ModelNotFound, 404),
        (client_sdk.ServerBusy, 429),
        (client_sdk.ServerError, 500),
        (client_sdk.ClientError, 500),
        (RuntimeError, 500),
        (client_sdk.ServerUnreachable, 503),
        (client_sdk.StepDied, 503),
        (client_sdk.VersionChanged, 503),
        (client_sdk.AccessDenied, 503),
        (client_sdk.DeadlineExceeded, 504),
    ],
)
def test_each_error_has_a_status_and_keeps_addresses_for_the_log(error, status, caplog):
    failure = failure_of(error(f"{ADDRESS} did what it did"))
    assert STATUSES[failure.reason] == status
    assert ADDRESS not in str(failure) and ADDRESS in caplog.text
    assert ("retry-after" in failure.headers) == (status in (429, 503))


def test_a_server_that_loads_its_models_is_away_and_not_busy():
    failure = failure_of(client_sdk.ServerBusy.loading("Request for unknown model: 'bert' is not at ready state"))
    assert STATUSES[failure.reason] == 503 and failure.headers == {"retry-after": "1"}


def test_what_is_wrong_with_a_call_is_told_as_the_client_tells_it():
    failure = failure_of(client_sdk.InvalidArgument.of_text(3, " is blank"))
    assert (failure.reason, str(failure)) == ("invalid", "text 3 is blank")


def test_a_failure_is_what_it_is():
    failure = Failure("missing", "there is none", "model")
    assert failure_of(failure) is failure
