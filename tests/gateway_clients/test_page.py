"""A real browser opens the gateway's page: Debian's chromium, or another that is there, driven by playwright."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from client_sdk import Client, LocalServer, maxsim, similarity
from tests.gateway_clients.test_packages import PYTHON
from tests.support.servers.balancer import one_address
from tests.support.servers.gateways import RunningGateway, running_gateway
from tests.support.servers.local_servers import free_ports

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TEXTS = ["The cat sits on the mat.", "A kitten rests on a rug.", "Stock markets fell. " * 80]
QUERY = "Who lies on a carpet?"

SEEN = """
import json, os, sys
from playwright.sync_api import sync_playwright

url, query, texts = json.loads(sys.argv[1])
with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=os.environ["BROWSER"], args=["--no-sandbox"])
    page = browser.new_page()
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("requestfailed", lambda request: wrong.append(request.url))
    page.goto(url)
    page.wait_for_selector("#families tbody tr")
    page.get_by_text("ready: a text was answered just now").wait_for()
    page.select_option("#model", "bert")
    page.fill("#query", query)
    page.fill("#texts", "\\n".join(texts))
    page.click("#try button")
    page.wait_for_selector(".heat td")
    seen = {
        "families": page.locator("#families tbody th").all_inner_texts(),
        "ready": page.locator("#families tbody td:last-child").all_inner_texts(),
        "heat": [row.locator("td").all_inner_texts() for row in page.locator(".heat tbody tr").all()],
        "nearest": page.locator("#answer section").nth(1).locator("tr").first.inner_text(),
        "tokens": page.locator("#answer ol li").first.locator(".token").all_inner_texts(),
        "cut": page.locator("#answer ol strong").all_inner_texts(),
        "key": page.locator("#key-field").is_visible(),
    }
    page.select_option("#model", "reranker")
    page.click("#try button")
    page.wait_for_selector("text=By the query")
    seen["ranked"] = page.locator("#answer tr td:nth-child(2)").all_inner_texts()
    page.select_option("#model", "colbert")
    page.click("#try button")
    page.wait_for_selector("text=by maxsim")
    seen["late"] = page.locator("#answer tr").all_inner_texts()
    page.fill("#texts", " ")
    page.click("#try button")
    page.wait_for_selector("#error:visible")
    seen["error"] = page.inner_text("#error")
    page.wait_for_selector("#live dd")
    seen["live"] = page.locator("#live dt").all_inner_texts()
    browser.close()
print(json.dumps({**seen, "wrong": wrong}))
"""


@pytest.mark.skipif(BROWSER is None, reason="there is no chromium")
def test_the_page_encodes_shows_a_heat_map_and_says_what_is_wrong(gateway: RunningGateway, gateway_server: LocalServer):
    done = subprocess.run(
        [PYTHON, "-c", SEEN, json.dumps([gateway.url, QUERY, TEXTS])],
        env={**os.environ, "BROWSER": str(BROWSER)},
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    with Client(gateway_server.grpc_url) as bert, Client(gateway_server.grpc_url, "reranker") as reranker:
        vectors = bert.encode([QUERY, *TEXTS])
        counts = bert.count_tokens(TEXTS)
        ranked = [one.document for one in reranker.rerank(QUERY, [text.strip() for text in TEXTS])]
    with Client(gateway_server.grpc_url, "colbert") as colbert:
        late = colbert.encode_multi([QUERY], input_type="query"), colbert.encode_multi(TEXTS, input_type="document")
    expected = similarity(vectors, vectors, metric="cosine")
    assert seen["wrong"] == []
    assert {"bert", "colbert", "reranker", "splade"} <= {*seen["families"]}
    assert {*seen["ready"]} == {"yes"} and len(seen["ready"]) == len(seen["families"])
    assert [[float(cell) for cell in row] for row in seen["heat"]] == pytest.approx(expected.round(2), abs=0.011)
    best = int(expected[0, 1:].argmax())
    assert seen["nearest"].split(None, 1) == [f"{expected[0, 1 + best]:.4f}", TEXTS[best].strip()]
    assert seen["tokens"] == ["[CLS]", "who", "lies", "on", "a", "carpet", "?", "[SEP]"]
    assert seen["cut"] == [f" {counts[2] - 256} more were cut off"] and counts[2] > 256
    assert seen["ranked"] == ranked
    best = maxsim(*late)[0]
    assert [float(row.split()[0]) for row in seen["late"]] == pytest.approx(sorted(best, reverse=True), abs=1e-3)
    assert seen["error"] == "there is no text: write some, one a line"
    assert not seen["key"]
    assert "texts a second" in seen["live"]


LEFT_OPEN = """
import os, sys
from playwright.sync_api import sync_playwright

with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=os.environ["BROWSER"], args=["--no-sandbox"])
    page = browser.new_page()
    page.set_default_timeout(90_000)

    def seen(what):
        print(what, flush=True)
        sys.stdin.readline()

    page.goto(sys.argv[1])
    page.get_by_text("not ready: the server cannot be reached").wait_for()
    page.wait_for_selector("#error:visible")
    seen("no server")
    page.get_by_text("ready: a text was answered just now", exact=True).wait_for()
    page.wait_for_selector("#error", state="hidden")
    page.select_option("#model", "small")
    page.select_option("#prompt", "query")
    page.click("#try button")
    page.wait_for_selector(".heat td")
    seen("a server")
    page.get_by_text("not ready: the server cannot be reached").wait_for()
    page.locator("#families td.bad").first.wait_for()
    assert page.input_value("#model") == "small" and page.input_value("#prompt") == "query"
    seen("no server again")
    page.get_by_text("There are no metrics").wait_for()
    seen("no gateway")
    page.wait_for_selector("#live-error", state="hidden")
    assert page.get_by_text("its metrics").is_visible()
    assert not [text for text in page.locator("#live dd").all_inner_texts() if text.startswith("-")]
    browser.close()
"""


@pytest.mark.skipif(BROWSER is None, reason="there is no chromium")
def test_a_page_that_is_left_open_sees_what_comes_and_goes(gateway_server: LocalServer, tmp_path: Path):
    server = int(gateway_server.grpc_url.rpartition(":")[2])
    address, port, _ = free_ports()
    here = (f"grpc://127.0.0.1:{address}", "--listen", f"127.0.0.1:{port}")
    command = [PYTHON, "-c", LEFT_OPEN, f"http://127.0.0.1:{port}"]
    environment = {**os.environ, "BROWSER": str(BROWSER)}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path
    ) as browser:

        def sees(what: str) -> None:
            assert browser.stdout is not None and browser.stdout.readline() == f"{what}\n"

        def go_on() -> None:
            assert browser.stdin is not None
            print(file=browser.stdin, flush=True)

        with running_gateway(tmp_path, *here):
            sees("no server")
            with one_address(server, at=address):
                go_on()
                sees("a server")
            go_on()
            sees("no server again")
        go_on()
        sees("no gateway")
        with running_gateway(tmp_path, *here):
            go_on()
            assert browser.wait(90) == 0
