"""Which server a command talks to: the arguments that all but `serve` share."""

from __future__ import annotations

import argparse
import contextlib

from client_sdk._api_key import read_api_key
from client_sdk._session import Session
from client_sdk._settings import DEFAULT_MODEL, DEFAULT_TIMEOUT, DEFAULT_URL, Settings, default_url, make_settings
from client_sdk._transport.address import parse_addresses


def add_arguments(
    parser: argparse.ArgumentParser, timeout: float | None, what_for: str, *, url: str = "--url", no_url: str = ""
) -> None:
    """Add them to a command.

    Args:
        parser: The command's.
        timeout: The default, in seconds.
        what_for: Goes into its help.
        url: What the option is called that says where the server is.
        no_url: What is done without it, if it is not the default that other commands have.
    """
    default = f"{DEFAULT_TIMEOUT:g} without an answer, more for long texts" if timeout is None else f"{timeout:g}"
    parser.add_argument(
        url,
        dest="url",
        metavar="URL[,URL...]",
        help=f"of the server, or of several with the same model; default: CLIENT_SDK_URL, or {no_url or DEFAULT_URL}",
    )
    parser.add_argument("--model", help=f"the family's name; default: CLIENT_SDK_MODEL, or {DEFAULT_MODEL}")
    parser.add_argument(
        "--timeout", type=float, default=timeout, metavar="SECONDS", help=f"{what_for}; default: {default}"
    )
    parser.add_argument(
        "--api-key-file",
        metavar="FILE",
        help="holds the key of a restricted server; default: CLIENT_SDK_API_KEY, or none",
    )
    parser.add_argument(
        "--root-certificates", metavar="FILE", help="PEM, the authorities to trust (TLS); default: the system's"
    )
    parser.add_argument("--client-certificate", metavar="FILE", help="PEM, to show to the server (TLS)")
    parser.add_argument("--client-key", metavar="FILE", help="PEM, the certificate's private key")


def addresses(arguments: argparse.Namespace) -> list[str]:
    """The URL of each server; raises InvalidArgument."""
    return [str(address) for address in parse_addresses(default_url() if arguments.url is None else arguments.url)]


def open_session(arguments: argparse.Namespace, url: str | None = None) -> contextlib.AbstractContextManager[Session]:
    """A session with the servers, or the one at `url`; raises InvalidArgument, or OSError for the key's file."""
    return contextlib.closing(Session(settings_of(arguments, url), "Client"))


def settings_of(arguments: argparse.Namespace, url: str | None = None) -> Settings:
    """What a client of the servers, or of the one at `url`, is made with; raises as `open_session`."""
    return make_settings(
        url or arguments.url,
        arguments.model,
        timeout=arguments.timeout,
        api_key=read_api_key(arguments.api_key_file) if arguments.api_key_file is not None else None,
        root_certificates=arguments.root_certificates,
        client_certificate=arguments.client_certificate,
        client_key=arguments.client_key,
    )
