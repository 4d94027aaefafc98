"""What a local server is told: addresses, closed endpoints, key, encryption and traces, as tritonserver's arguments."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from urllib.parse import urlsplit

from client_sdk._api_key import HTTP_HEADER, bearer, checked_api_key, key_header
from client_sdk._errors import InvalidArgument, InvalidType
from client_sdk._server.listen import Host, Ports

CLOSED_ENDPOINTS = ("model-repository", "shared-memory", "trace", "logging")
"""The endpoints that change or reach into a server; a LocalServer answers them only if they are asked for."""

KEYED_ENDPOINTS = ("inference", "metadata", "model-config", "statistics")
"""What a key closes to all others. Health stays open for probes, which have no key; it tells whether, not what."""

API_KEY_PLACE = "(the-api-key)"
"""Stands in the arguments where the key belongs: arguments can be listed by everybody on the machine."""

SHORTEST_API_KEY = 16  # characters
# What HTTP's bearer tokens may hold (RFC 6750); tritonserver's option has its own use for : and ,.
_API_KEY = re.compile(r"[A-Za-z0-9._~+/-]+=*")

# Triton waits this long for requests that are being served, and looks once a second.
_EXIT_TIMEOUT_SECONDS = 5

_OWN_ARGUMENTS = {
    "--model-repository": "model_repository",
    "--http-address": "host",
    "--grpc-address": "host",
    "--metrics-address": "host",
    "--http-port": "http_port",
    "--grpc-port": "grpc_port",
    "--metrics-port": "metrics_port",
    "--grpc-use-ssl": "tls_certificate",
    "--grpc-use-ssl-mutual": "tls_client_ca",
    "--http-restricted-api": "api_key and open_endpoints",
    "--grpc-restricted-protocol": "api_key and open_endpoints",
    "--model-store": "model_repository",
    "--grpc-server-cert": "tls_certificate",
    "--grpc-server-key": "tls_key",
    "--grpc-root-cert": "tls_client_ca",
}
# What a server that is waited for and looked after cannot do without: the one value that is allowed, and why.
_ENDPOINTS_OF_CLOUDS = "its port knows no key, and HTTP is closed for it; call the server over HTTP or gRPC"
_FIXED_ARGUMENTS: Mapping[str, tuple[str | None, str]] = {
    "--allow-http": ("true", "HTTP tells whether the server is ready; keep others from it with host or a firewall"),
    "--allow-sagemaker": ("false", _ENDPOINTS_OF_CLOUDS),
    "--allow-vertex-ai": ("false", _ENDPOINTS_OF_CLOUDS),
    "--exit-on-error": ("true", "a server that lacks a model is not ready; leave the model out of the repository"),
    "--id": (None, "the name tells this server from others"),
    "--load-model": (None, "all models of the repository are served; leave others out of it"),
    "--model-config-name": (None, "config.pbtxt is what is checked; put the configuration there"),
    "--model-control-mode": (
        "none",
        "an export replaces several directories, which polling sees one by one, and mixes; restart the server, or load "
        "models by name with open_endpoints=['model-repository']",
    ),
    "--model-namespacing": ("false", "models are asked for by their names alone"),
    "--repository-poll-secs": (None, "a repository is not polled, see --model-control-mode"),
}


@dataclass(frozen=True)
class Tls:
    """The PEM files of an encrypted gRPC port.

    Attributes:
        certificate: The server's, with those that lead to its authority.
        key: Of the certificate, not encrypted.
        client_ca: The authorities whose certificates clients must have; None: clients need none.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def arguments(self) -> list[str]:
        """For tritonserver."""
        arguments = [
            "--grpc-use-ssl=true",
            f"--grpc-server-cert={self.certificate}",
            f"--grpc-server-key={self.key}",
        ]
        if self.client_ca:
            arguments += ["--grpc-use-ssl-mutual=true", f"--grpc-root-cert={self.client_ca}"]
        return arguments


@dataclass(frozen=True)
class Trace:
    """Where OpenTelemetry spans go.

    Attributes:
        url: Of the collector's OTLP/HTTP endpoint, such as http://collector:4318/v1/traces.
        rate: One request in so many is traced; 0: none but those that come with a `traceparent` header, which
            are traced at any rate.
    """

    url: str
    rate: int

    def arguments(self) -> list[str]:
        """For tritonserver."""
        settings = (
            "mode=opentelemetry",
            f"opentelemetry,url={self.url}",
            "opentelemetry,resource=service.name=bert-on-triton",
            "level=TIMESTAMPS",
            f"rate={self.rate}",
        )
        return [f"--trace-config={setting}" for setting in settings]


@dataclass(frozen=True)
class ServerSettings:
    """One server's, checked; see `LocalServer` for what they mean."""

    model_repository: Path
    host: Host
    closed_endpoints: Sequence[str]
    open_endpoints: Sequence[str]
    api_key: str | None = field(default=None, repr=False)
    tls: Tls | None = None
    trace: Trace | None = None
    extra_args: tuple[str, ...] = ()
    models: tuple[str, ...] = ()

    @property
    def models_may_come(self) -> bool:
        """Whether models can be loaded and unloaded while it runs."""
        return "model-repository" in self.open_endpoints

    @property
    def http_host(self) -> Host:
        """Where HTTP is served: with TLS for gRPC on this machine alone, since Triton's HTTP cannot be encrypted."""
        return self.host.loopback if self.tls else self.host

    @property
    def key_headers(self) -> Mapping[str, str]:
        """What an HTTP request must have to be served."""
        return key_header(self.api_key, uses_grpc=False) if self.api_key else {}

    def arguments(self, name: str, ports: Ports) -> list[str]:
        """For tritonserver; the key is left out of them, see API_KEY_PLACE."""
        arguments = [
            f"--model-repository={self.model_repository}",
            f"--id={name}",
            f"--http-address={self.http_host.http_argument}",
            f"--http-port={ports.http}",
            f"--grpc-address={self.host.grpc_argument}",
            f"--grpc-port={ports.grpc}",
            f"--metrics-address={self.host.http_argument}",
            f"--metrics-port={ports.metrics}",
            f"--exit-timeout-secs={_EXIT_TIMEOUT_SECONDS}",
            # Completing a config takes a second Python process a model; a served config is complete.
            "--disable-auto-complete-config",
            # A name that the guard knows: killed Python backends leave their shared memory behind.
            f"--backend-config=python,shm-region-prefix-name={name}-",
        ]
        if self.closed_endpoints:
            # Nobody is to send this. The list of processes shows it, but no header holds a newline.
            arguments += _restricted(self.closed_endpoints, "closed", f"{secrets.token_hex(16)}\n")
        if self.api_key:
            keyed = [*KEYED_ENDPOINTS, *self.open_endpoints]
            arguments += _restricted(keyed, HTTP_HEADER, bearer(API_KEY_PLACE))
        if self.models_may_come:
            # By name, since * takes every directory for a model.
            arguments += ["--model-control-mode=explicit", *(f"--load-model={model}" for model in self.models)]
        if self.tls:
            arguments += self.tls.arguments()
        if self.trace:
            arguments += self.trace.arguments()
        return [*arguments, *self.extra_args]


def _restricted(endpoints: Sequence[str], header: str, value: str) -> list[str]:
    restriction = f"{','.join(endpoints)}:{header}={value}"
    return [f"--http-restricted-api={restriction}", f"--grpc-restricted-protocol={restriction}"]


def checked_endpoints(names: Collection[str]) -> list[str]:
    """`names`, each once, if all are of CLOSED_ENDPOINTS. Raises InvalidArgument."""
    if isinstance(names, str):
        names = (names,)
    unknown = sorted(set(names) - set(CLOSED_ENDPOINTS))
    if unknown:
        raise InvalidArgument(
            f"open_endpoints: {', '.join(unknown)} is not one of {', '.join(CLOSED_ENDPOINTS)}; all others are open"
        )
    return sorted(set(names))


def checked_extra_args(arguments: Sequence[str]) -> tuple[str, ...]:
    """`arguments`, if none has an option of its own or keeps a server from being ready. Raises InvalidArgument."""
    if isinstance(arguments, str) or not all(isinstance(argument, str) for argument in arguments):
        raise InvalidType("extra_args must be a list of str, as in ['--http-thread-count=16']")
    for argument, after in zip_longest(arguments, arguments[1:], fillvalue=""):
        name, has_value, value = argument.partition("=")
        if not name.startswith("--"):
            continue  # the value of the one before
        if not has_value and not after.startswith("--"):
            value = after
        for option in _options_meant(name):
            if option in _OWN_ARGUMENTS:
                raise InvalidArgument(f"extra_args: {argument} is not for here: use {_OWN_ARGUMENTS[option]}")
            allowed, why = _FIXED_ARGUMENTS[option]
            if {"1": "true", "0": "false"}.get(value, value.lower()) != allowed:
                raise InvalidArgument(f"extra_args: {argument} is not for here: {why}")
        if "shm-region-prefix-name" in value:
            raise InvalidArgument(f"extra_args: {argument} is not for here: who owns shared memory is told by its name")
    return tuple(arguments)


def _options_meant(name: str) -> list[str]:
    """The options not for here that tritonserver may take `name` for: it knows an option by its beginning too."""
    known = [*_OWN_ARGUMENTS, *_FIXED_ARGUMENTS]
    return [name] if name in known else [option for option in known if option.startswith(name)]


def checked_server_key(key: str | None) -> str | None:
    """`key`, if it is one that a server may rely on. Raises InvalidArgument, which does not show it."""
    if key is None:
        return None
    checked_api_key(key)
    if len(key) < SHORTEST_API_KEY or not _API_KEY.fullmatch(key):
        raise InvalidArgument(
            f"the api_key must have at least {SHORTEST_API_KEY} characters, of letters, digits and -._~+/ "
            "(= at its end): python -c 'import secrets; print(secrets.token_urlsafe(32))' makes one"
        )
    return key


def make_tls(
    certificate: str | os.PathLike[str] | None,
    key: str | os.PathLike[str] | None,
    client_ca: str | os.PathLike[str] | None,
) -> Tls | None:
    """The files, if they belong together and can be read; None if none is given. Raises InvalidArgument."""
    given = {"tls_certificate": certificate, "tls_key": key, "tls_client_ca": client_ca}
    paths = {name: Path(file).resolve() for name, file in given.items() if file is not None}
    if not paths:
        return None
    if "tls_certificate" not in paths or "tls_key" not in paths:
        raise InvalidArgument("tls_certificate and tls_key belong together, and tls_client_ca goes with both")
    for name, path in paths.items():
        try:
            path.open("rb").close()
        except OSError as error:
            raise InvalidArgument(f"{name}: {str(path)!r} cannot be read: {error.strerror}") from None
    return Tls(paths["tls_certificate"], paths["tls_key"], paths.get("tls_client_ca"))


def make_trace(trace: str | None, rate: int) -> Trace | None:
    """Read `otlp=URL`. Raises InvalidArgument."""
    if trace is None:
        return None
    kind, _, url = trace.partition("=")
    parts = urlsplit(url)
    if kind != "otlp" or parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidArgument(
            f"trace is {trace!r}: it is otlp= and the address of a collector's OTLP/HTTP endpoint, "
            "such as otlp=http://localhost:4318/v1/traces"
        )
    if rate < 0:
        raise InvalidArgument(f"trace_rate is {rate}: one request in so many is traced, 0 for none without traceparent")
    return Trace(url if parts.path.strip("/") else f"{url.rstrip('/')}/v1/traces", rate)
