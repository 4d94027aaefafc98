"""Stores of objects on this machine, which speak the protocols of S3 and of Google's storage."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from gcp_storage_emulator.server import create_server
from moto.server import ThreadedMotoServer
from pyarrow.fs import FileSystem

BUCKET = "bucket"
ROOTS = {"s3": f"s3://{BUCKET}", "gs": f"gs://anonymous@{BUCKET}"}


@contextmanager
def buckets() -> Iterator[dict[str, str]]:
    """ROOTS, an empty bucket each, as the environment of this process and of those that it starts has them."""
    s3 = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    gs = create_server("127.0.0.1", 0, in_memory=True, default_bucket=BUCKET)
    s3.start()
    gs.start()
    host, port = s3.get_host_and_port()
    environment = {
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "CLOUD_STORAGE_EMULATOR_ENDPOINT": f"http://127.0.0.1:{gs._api._httpd.server_port}",
    }
    try:
        # What servers of moto hold is one thing for all of a process.
        urllib.request.urlopen(f"http://{host}:{port}/moto-api/reset", data=b"").close()
        with patch.dict("os.environ", environment):
            FileSystem.from_uri(ROOTS["s3"] + "?allow_bucket_creation=true")[0].create_dir(BUCKET)
            yield ROOTS
    finally:
        gs.stop()
        s3.stop()
