"""A script for bert-serving-client that makes every call of it; results.npz and results.json hold what it gave there.

The server was `bert-serving-start -max_seq_len 25 -pooling_layer -2 -show_tokens_to_client`, with all-MiniLM-L6-v2.
"""

import threading
import warnings

from bert_serving.client import BertClient, ConcurrentBertClient

TEXTS = [
    "First do it",
    "then do it right",
    "then do it better",
    "Who was Jim Henson? ||| Jim Henson was a puppeteer",
    "a ||| b ||| c",
    "the [MASK] of France " * 20,
]
TOKENS = [["first", "do", "it"], ["who", "was", "jim", "|||", "jim", "henson"], ["no-such-token", "[MASK]", "##s"]]
BATCHES = [TEXTS[:1], TEXTS[:3], TEXTS[3:5]]


def error_of(call, *args, **kwargs):
    """The builtin that a caller would catch."""
    try:
        call(*args, **kwargs)
    except TypeError:
        return "TypeError"
    except ValueError:
        return "ValueError"
    except AttributeError:
        return "AttributeError"
    except TimeoutError:
        return "TimeoutError"
    return "none"


def main(port, port_out, dead_port):
    """All results by name: arrays, and what JSON can hold."""
    found = {}
    with BertClient(port=port, port_out=port_out, timeout=60000) as bc:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found["encode"] = bc.encode(TEXTS)
            found["warnings of texts that are cut"] = len(caught)
            bc.encode(TEXTS[:3])
            found["warnings with others"] = len(caught)
        warnings.simplefilter("ignore")
        found["tokenized"] = bc.encode(TOKENS, is_tokenized=True)
        found["shown"], found["tokens"] = bc.encode(TEXTS, show_tokens=True)
        _, found["tokens of tokens"] = bc.encode(TOKENS, is_tokenized=True, show_tokens=True)

        found["nothing to fetch"] = [bc.fetch_all(), list(bc.fetch())]
        found["not blocking"] = [bc.encode(texts, blocking=False) for texts in BATCHES]
        found["pending"] = bc.status["num_pending_request"]
        for place, response in enumerate(sorted(bc.fetch(delay=0.2), key=lambda response: response.id)):
            found[f"fetch {place}"] = response.embedding
        for texts in BATCHES:
            bc.encode(texts, blocking=False)
        for place, vectors in enumerate(bc.fetch_all(sort=True)):
            found[f"fetch_all {place}"] = vectors
        for texts in BATCHES:
            bc.encode(texts, blocking=False)
        found["fetch_all concat"] = bc.fetch_all(concat=True)
        found["pending at the end"] = bc.status["num_pending_request"]

        responses = sorted(bc.encode_async(iter(BATCHES), delay=0.5), key=lambda response: response.id)
        for place, response in enumerate(responses):
            found[f"encode_async {place}"] = response.embedding
        found["encode_async two"] = len(list(bc.encode_async(iter(BATCHES), max_num_batch=2, delay=0.5)))
        some = bc.encode_async(iter([TOKENS]), delay=0.5, is_tokenized=True)
        found["encode_async tokenized"] = next(some).embedding

        config = bc.server_config
        names = ("max_seq_len", "pooling_layer", "pooling_strategy", "mask_cls_sep", "no_special_token")
        found["server_config"] = {name: config[name] for name in names}
        found["client"] = config["client"] == bc.identity.decode()
        statistic = bc.server_status["statistic"]
        found["statistic"] = [statistic[name] > 0 for name in ("num_data_request", "num_total_seq")]
        found["status"] = sorted(bc.status)
        found["numbered"] = bc.status["num_request"] > 10

        for name, texts in {
            "[]": [],
            "blank": ["a", " \n"],
            "a tuple": ("a", "b"),
            "a str": "a",
            "None": None,
            "an int within": ["a", 1],
            "tokens": [["a"]],
        }.items():
            found["encode of " + name] = error_of(bc.encode, texts)
        for name, texts in {
            "[]": [],
            "a list of str": ["a"],
            "an empty list": [["a"], []],
            "an int within": [["a", 1]],
            "a blank token": [["a", " "]],
        }.items():
            found["encode of tokens, " + name] = error_of(bc.encode, texts, is_tokenized=True)
        found["an unknown argument"] = error_of(bc.encode, ["a"], wrong=1)

    with BertClient("localhost", port, port_out, "list", ignore_all_checks=True, identity=b"me") as bc:
        found["list"] = bc.encode(TEXTS)
        found["list is"] = [type(bc.encode(TEXTS)).__name__, type(bc.encode(TEXTS)[0][0]).__name__]
        bc.encode(TEXTS[:2], blocking=False)
        bc.encode(TEXTS[2:3], blocking=False)
        found["list concat"] = bc.fetch_all(concat=True)
        found["identity"] = bc.status["identity"].decode()

    concurrent = ConcurrentBertClient(max_concurrency=4, port=port, port_out=port_out)
    vectors = {}

    def work(place):
        vectors[place] = concurrent.encode(TEXTS[place : place + 1])

    threads = [threading.Thread(target=work, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for place in range(4):
        found[f"concurrent {place}"] = vectors[place]
    found["concurrent config"] = concurrent.server_config["max_seq_len"]
    found["concurrent status"] = sorted(concurrent.status)
    found["concurrent statistic"] = concurrent.server_status["statistic"]["num_data_request"] > 0
    concurrent.close()

    found["a wrong output_fmt"] = error_of(BertClient, port=port, port_out=port_out, output_fmt="json")
    found["no server"] = error_of(BertClient, port=dead_port, port_out=dead_port + 1, timeout=500)
    return found
