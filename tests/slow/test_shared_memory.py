"""Where /dev/shm is too small for an answer, the request ends in an error, and the others are served."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.support.places import ROOT

SIZE = "14m"  # a server of five steps starts in 5 MB, and the tokens of 32 texts of 256 tokens are 12.5 MB


def test_an_answer_that_does_not_fit_ends_in_an_error(bert_repository):
    program = [sys.executable, "-m", "tests.support.servers.small_shared_memory", str(bert_repository)]
    own = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    mount = f'mount -t tmpfs -o size={SIZE} tmpfs /dev/shm && exec "$@"'
    run = subprocess.run(
        [*own, "sh", "-c", mount, "sh", *program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    assert found["small"] == found["small afterwards"] == "served"
    for outcome in found["large"]:
        assert outcome.startswith(("503 ", "400 in ensemble 'bert_tokens'", "500 ")), found
    assert any("the answer has 12.5 MB, and /dev/shm has room for" in outcome for outcome in found["large"]), found
    assert found["lines"] <= 2
    assert "no answer" not in found["full"], found
    assert "no answer" not in found["in turns"] and {"served"} < {*found["in turns"]}, found
    assert found["small after turns"] == "served"
    assert found["served when there is room again"], found
