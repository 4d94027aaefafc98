import inspect
import subprocess
import sys
import typing

import numpy as np
import pytest

import client_sdk
from tests.support.patience import PATIENCE


def test_all_is_what_there_is():
    names = {name for name, value in vars(client_sdk).items() if not inspect.ismodule(value)}
    public = {name for name in names if not name.startswith("_")} | {"__version__"}
    assert set(client_sdk.__all__) == public
    assert list(client_sdk.__all__) == sorted(client_sdk.__all__, key=str)


@pytest.mark.parametrize(
    "name",
    [
        "encode",
        "encode_query",
        "encode_document",
        "encode_iter",
        "encode_tokens",
        "count_tokens",
        "similarity",
        "info",
        "is_ready",
    ],
)
def test_both_clients_take_the_same_arguments(name):
    blocking, asynchronous = (
        inspect.signature(getattr(kind, name)).parameters for kind in (client_sdk.Client, client_sdk.AsyncClient)
    )
    assert list(blocking.items()) == list(asynchronous.items())
    if name == "encode":
        assert list(inspect.signature(client_sdk.encode).parameters) == [key for key in blocking if key != "self"]


@pytest.mark.parametrize("kind", [client_sdk.Client, client_sdk.AsyncClient])
def test_annotations_can_be_read_by_programs(kind):
    for name in (
        "__init__",
        "encode",
        "encode_query",
        "encode_document",
        "encode_iter",
        "encode_tokens",
        "count_tokens",
        "info",
    ):
        assert typing.get_type_hints(getattr(kind, name))
    assert typing.get_type_hints(client_sdk.encode)["return"]
    returned = inspect.signature(client_sdk.Client.encode, eval_str=True).return_annotation
    assert typing.get_origin(returned) is np.ndarray


def test_the_import_leaves_the_protocols_for_later():
    code = (
        "import sys, client_sdk; print([name for name in ('grpc', 'aiohttp', 'tritonclient') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_client_imports_its_own_protocol_only():
    code = (
        "import sys, client_sdk\n"
        "try: client_sdk.Client({url!r}).encode('text', timeout={timeout})\n"
        "except client_sdk.ServerUnreachable: print('aiohttp' in sys.modules, 'grpc' in sys.modules)"
    )

    def loaded(url):
        command = [sys.executable, "-c", code.format(url=url, timeout=PATIENCE)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    assert loaded("grpc://127.0.0.1:1") == ["False", "True"]
    assert loaded("http://127.0.0.1:1") == ["True", "False"]


def test_the_import_takes_little_beyond_numpy():
    code = (
        "from time import process_time as clock; start = clock(); import numpy; between = clock(); import client_sdk\n"
        "print((clock() - between) / (between - start))"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(5)]
    assert min(float(run.stdout) for run in runs) < 2  # processor time, in that of numpy
