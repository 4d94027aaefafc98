from __future__ import annotations

import contextlib
import random
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from export.pipeline import export
from export.settings import Request
from perf.ceiling.slices import longest_first
from perf.compare import checkpoints
from perf.compare.checkpoints import RANDOM, random_weights
from perf.compare.command import check
from perf.compare.comparison import Figure, System, against_each, markdown, ratios, rows, summary_lines
from perf.compare.running.closed_loop import Call, Measured, closed_loop, each_once
from perf.compare.systems import openai_form
from perf.compare.systems.bert_as_service.google_names import google_name
from perf.compare.systems.environment import Environment, PeerAbsent, find_python, run
from perf.compare.systems.on_ids import padded
from perf.compare.systems.registry import CEILINGS, OURS, SYSTEMS, chosen, environments
from perf.compare.systems.server import serving
from perf.compare.workload import BLOCK, balanced, bulk_texts, distinct, evenly, in_calls, workload
from perf.failure import Failure
from perf.processes import descendants


@pytest.fixture
def systems() -> list[System]:
    """Bare, ours and two peers; three rounds, of which the middle one is the median."""

    def system(name: str, rates: dict[str, float], p50: float, cores: list[float]) -> System:
        found = System(name, name.title(), "as it comes")
        for factor in (1.2, 1.0, 0.8):
            for load, rate in rates.items():
                found.add(load, {"texts_per_second": rate * factor, "texts": 1000, "cores": cores, "steady": True})
            found.add("1x1", {"latency_ms": [p50 * factor] * 9 + [1000.0], "texts_per_second": 1.0, "cores": cores})
        return found

    return [
        system("bare", {"bulk": 250.0}, 4.0, [2.0]),
        system("ours", {"16x1": 200.0, "2x64": 225.0, "bulk": 240.0}, 5.0, [0.25, 1.9]),
        system("slow", {"16x1": 50.0, "2x64": 75.0, "bulk": 60.0}, 8.0, [0.1, 1.9]),
        system("quick", {"16x1": 40.0, "2x64": 90.0, "bulk": 80.0}, 20.0, [0.1, 1.9]),
    ]


def test_a_figure_is_the_median_of_the_rounds_with_their_range(systems: list[System]) -> None:
    assert systems[1].figure("16x1") == Figure(200.0, 160.0, 240.0)
    assert systems[0].figure("16x1") is None
    # The p50 of each round, not the mean: one slow call in ten does not count.
    assert systems[1].figure("1x1") == Figure(5.0, 4.0, 6.0)


def test_ratios_are_to_the_bare_bulk_rate_and_to_the_best_of_each_load(systems: list[System]) -> None:
    found = ratios(systems, ["ours"], ["bare"])
    assert (found.ceiling, found.bare_ms) == (250.0, 4.0)
    assert found.best_server == {"16x1": "slow", "2x64": "quick", "bulk": "quick", "1x1": "slow"}
    assert found.best_library == {}
    assert summary_lines(systems, ["ours"], ["bare"]) == [
        "16x1: 0.80 of the ceiling, 4.00 x the best server (Slow)",
        "2x64: 0.90 of the ceiling, 2.50 x the best server (Quick)",
        "bulk: 0.96 of the ceiling, 3.00 x the best server (Quick)",
        "1x1: bare + 1.00 ms, 1.60 x the best server (Slow)",
    ]
    assert against_each(systems, ["ours"], ["bare"]) == [
        ["Slow", "4.00", "3.00", "4.00", "1.60"],
        ["Quick", "5.00", "2.50", "3.00", "4.00"],
    ]


def test_libraries_are_set_apart_from_servers(systems: list[System]) -> None:
    systems[3].in_process = True
    assert summary_lines(systems, ["ours"], ["bare"])[1] == (
        "2x64: 0.90 of the ceiling, 3.00 x the best server (Slow), 2.50 x the best library (Quick)"
    )


def test_ours_asked_another_way_has_lines_of_its_own_and_is_nobodys_peer(systems: list[System]) -> None:
    other = System("ours-http", "Ours over HTTP", "the same")
    other.add("16x1", {"texts_per_second": 225.0, "cores": [0.1, 1.9]})
    found = summary_lines([*systems, other], ["ours", "ours-http"], ["bare"])
    assert found[:2] == [
        "16x1: 0.80 of the ceiling, 4.00 x the best server (Slow)",
        "16x1, Ours over HTTP: 0.90 of the ceiling, 4.50 x the best server (Slow)",
    ]
    assert against_each([*systems, other], ["ours", "ours-http"], ["bare"]) == against_each(systems, ["ours"], ["bare"])


def test_ratios_are_between_systems_of_one_precision_and_not_to_engines_that_are_fed_ids(systems: list[System]) -> None:
    quick = systems[3]
    quick.precision = "int8"
    assert ratios(systems, ["ours"], ["bare"]).best_server["bulk"] == "slow"
    assert ratios(systems, ["ours"], ["bare"], "int8").best_server["bulk"] == "quick"
    systems[1].precision = "int8"
    assert summary_lines(systems, ["ours"], ["bare"])[2] == "bulk: 0.96 of the ceiling, 3.00 x the best server (Quick)"
    quick.on_ids = True
    assert summary_lines(systems, ["ours"], ["bare"])[2] == "bulk: 0.96 of the ceiling"
    assert [row[0] for row in against_each(systems, ["ours"], ["bare"])] == ["Slow", "Quick"]


def test_servers_that_are_asked_in_openai_s_form_read_it_and_answer_in_it() -> None:
    client = openai_form.Client({"port": 1, "path": "/", "model": "model"})
    assert openai_form.texts_of(client.prepare(["one", "two"])) == ["one", "two"]
    vectors = np.random.default_rng(0).standard_normal((2, 3), np.float32)
    assert np.array_equal(client.vectors(openai_form.answer(vectors)), vectors)


def test_rows_of_ids_are_cut_the_longest_first_and_padded_together() -> None:
    rows = [[1] * 3, [2] * 300, [3] * 200, [4] * 2]
    assert [[len(row) for row in part] for part in longest_first(rows)] == [[300], [200, 3, 2]]
    ids, mask = padded([rows[0], rows[3]])
    assert ids.tolist() == [[1, 1, 1], [4, 4, 0]] and mask.tolist() == [[1, 1, 1], [1, 1, 0]]


def test_int8_is_compared_by_cosine_and_refused_if_it_is_far() -> None:
    expected = np.eye(4, dtype=np.float32)[np.arange(80) % 4]

    class Near:
        def vectors(self, texts: list[str], in_call: int, clients: int) -> np.ndarray:
            found = expected[: len(texts)] + np.float32(self.off)
            return found / np.linalg.norm(found, axis=1, keepdims=True)

    near, texts = Near(), [str(index) for index in range(80)]
    near.off = 0.05
    assert check(near, texts, expected, "near").startswith("cosine >= 0.99")
    with pytest.raises(PeerAbsent, match="not 0.9999"):
        check(near, texts, expected, "directions")
    near.off = 0.3
    with pytest.raises(PeerAbsent, match="not 0.95"):
        check(near, texts, expected, "near")


def test_a_cosine_is_of_directions_whatever_the_lengths() -> None:
    expected = np.random.default_rng(0).standard_normal((80, 8), np.float32)

    class Scaled:
        def vectors(self, texts: list[str], in_call: int, clients: int) -> np.ndarray:
            return 3 * expected[: len(texts)]

    assert check(Scaled(), [""] * 80, expected, "directions") == "cosine >= 1.000000"


@pytest.mark.parametrize("contract", ["vectors", "directions", "near"])
def test_a_vector_that_is_not_finite_in_calls_of_one_text_is_not_near(contract: str) -> None:
    expected = np.eye(80, dtype=np.float32)

    class Broken:
        def vectors(self, texts: list[str], in_call: int, clients: int) -> np.ndarray:
            return expected[: len(texts)] + np.float32(np.nan if in_call == 1 else 0)

    with pytest.raises(PeerAbsent, match="not timed"):
        check(Broken(), [""] * 80, expected, contract)


def test_without_bare_and_peers_there_are_no_ratios(systems: list[System]) -> None:
    assert summary_lines(systems[1:2], ["ours"], ["bare"]) == []
    assert against_each(systems[:2], ["ours"], ["bare"]) == []


def test_the_table_leaves_what_was_not_measured_empty(systems: list[System]) -> None:
    assert rows(systems, ["ours"], ["bare"])[:2] == [
        ["Bare", "", "", "250 (200–300)", "4.00 (3.20–4.80)", "1.00"],
        ["Ours", "200 (160–240)", "225 (180–270)", "240 (192–288)", "5.00 (4.00–6.00)", "0.96"],
    ]


def test_the_page_names_every_system_that_is_absent_unsteady_or_was_given_fewer_texts(systems: list[System]) -> None:
    systems.append(System("gone", "Gone", "none", absent="it needs Python 3.7"))
    systems[2].rounds["2x64"][1]["steady"] = False
    for each in systems[3].rounds["bulk"]:
        each["texts"] = 500
    page = markdown(
        systems, {"command": "python -m perf compare"}, {"repeats": 3, "texts": 1000, "notes": []}, ["ours"], ["bare"]
    )
    assert "- Gone: it needs Python 3.7" in page
    assert "not steady when measured: Slow, 2x64." in page
    assert "to end in time: Quick: 500 of the texts." in page
    assert "| Ours | 200 (160–240) |" in page


def test_results_keep_quantiles_instead_of_all_latencies(systems: list[System]) -> None:
    first = systems[1].as_json()["rounds"]["1x1"][0]
    assert first["calls"] == 10
    assert first["latency_ms"] == {"p50": 6.0, "p95": 1000.0, "p99": 1000.0}


def test_texts_that_do_not_suffice_are_turned_round_and_never_repeated() -> None:
    assert distinct(["a b c", "d", "e f"], 2) == ["a b c", "d"]
    assert distinct(["a b c", "d", "e f"], 6) == ["a b c", "d", "e f", "b c a", "f e", "c a b"]
    with pytest.raises(ValueError, match="7 different texts"):
        distinct(["a b c", "d", "e f"], 7)


def test_every_block_of_balanced_texts_has_the_same_mix_of_lengths() -> None:
    chance = random.Random(0)
    counts = [int(chance.paretovariate(1.2)) + 2 for _ in range(20 * BLOCK)]
    texts = [f"{index}" for index in range(len(counts))]
    found = balanced(texts, counts)
    assert sorted(found) == sorted(texts)
    longest = max(counts)
    blocks = [[counts[int(text)] for text in found[i : i + BLOCK]] for i in range(0, len(found), BLOCK)]
    for block in blocks:
        # Each has its share of every length: sorted, they are the same but for what one step of the order makes.
        assert np.median(block) == np.median(counts)
        assert abs(np.mean(np.minimum(block, 50)) - np.mean(np.minimum(counts, 50))) < 0.3
    assert any(longest in block for block in blocks)
    assert balanced(texts[:7], counts[:7]) != texts[:7]
    assert sorted(balanced(texts[:7], counts[:7])) == texts[:7]


def test_latency_texts_stand_at_even_distances() -> None:
    assert sorted(evenly([f"{i:03}" for i in range(100)], 4)) == ["012", "037", "062", "087"]
    assert sorted(evenly(["a", "b"], 4)) == ["a", "b"]


def test_calls_are_full_unless_there_are_fewer_texts_than_one_takes() -> None:
    assert in_calls(list("abcde"), 2) == [["a", "b"], ["c", "d"]]
    assert in_calls(list("abc"), 8) == [["a", "b", "c"]]


@pytest.mark.parametrize(
    ("rate", "total", "expected"),
    [(300.0, 20_000, 20_000), (100.0, 20_000, 10_000), (27.0, 20_000, 2_000), (1.0, 20_000, 500), (1.0, 80, 80)],
)
def test_slow_systems_are_given_a_round_part_of_the_bulk_texts(rate: float, total: int, expected: int) -> None:
    assert bulk_texts(rate, total, seconds=120.0) == expected


def test_all_texts_of_a_workload_are_cut_and_different() -> None:
    vocabulary = {"[UNK]": 0, **{f"##{c}": i for i, c in enumerate("abcdefghijklmnopqrstuvwxyz", 1)}}
    vocabulary.update({c: len(vocabulary) + i for i, c in enumerate("abcdefghijklmnopqrstuvwxyz")})
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    found = workload(tokenizer, 1000, max_tokens=40)
    lengths = [len(encoding.ids) for encoding in tokenizer.encode_batch(found.bulk)]
    assert max(lengths) == found.longest == 40
    assert found.mean_tokens == pytest.approx(np.mean(lengths))
    assert len(found.bulk) == 1000
    assert len(set(found.bulk)) > 990  # two may begin with the same 40 tokens
    assert [len(call) for call in found.calls["2x64"]] == [64] * 15
    assert {len(call) for call in found.calls["16x1"] + found.calls["1x1"]} == {1}
    assert len(found.calls["1x1"]) == 100
    assert max(len(tokenizer.encode(text).ids) for text in found.checked) == 40


def test_a_call_counts_for_the_part_of_it_that_is_in_the_window() -> None:
    assert Call(1.0, 3.0).share(2.0, 10.0) == 0.5
    assert Call(1.0, 3.0).share(0.0, 10.0) == 1.0
    assert Call(1.0, 3.0).share(4.0, 10.0) == 0.0


def test_the_closed_loop_measures_the_rate_of_what_takes_a_known_time() -> None:
    connected, took = [], []

    def connect():
        connected.append(threading.get_ident())
        return call

    def call(seconds):
        started = time.perf_counter()
        time.sleep(seconds)
        took.append(time.perf_counter() - started)

    began = time.perf_counter()
    found = closed_loop(connect, [0.02], clients=4, seconds=1.0, meters=[lambda: 3 * (time.perf_counter() - began)])
    assert len(set(connected)) == 4
    assert np.median(found.latencies) == pytest.approx(np.median(took), rel=0.2)
    assert found.calls_per_second == pytest.approx(len(took) / (time.perf_counter() - began), rel=0.4)
    assert found.calls_per_second <= 4 / 0.02
    assert found.meters == [pytest.approx(3.0, rel=0.3)]


def test_calls_longer_than_the_window_are_measured_too() -> None:
    took = []

    def call(seconds):
        started = time.perf_counter()
        time.sleep(seconds)
        took.append(time.perf_counter() - started)

    found = closed_loop(lambda: call, [0.5], clients=2, seconds=0.2)
    assert found.calls_per_second == pytest.approx(2 / np.mean(took), rel=0.3)


def test_latencies_of_no_call_are_none() -> None:
    with pytest.raises(Failure, match="no call ended"):
        _ = Measured(1.5, [], [], 0.0, True).latencies


def test_a_client_that_fails_ends_the_loop_with_its_error() -> None:
    def connect():
        raise ConnectionError("nobody there")

    with pytest.raises(ConnectionError, match="nobody there"):
        closed_loop(connect, [0], clients=2, seconds=0.1)
    with pytest.raises(ConnectionError, match="nobody there"):
        each_once(connect, [0, 1, 2], clients=2)


def test_answers_come_in_the_order_of_the_requests() -> None:
    def connect():
        return lambda request: (time.sleep(0.001 * (request % 3)), request)[1]

    assert each_once(connect, list(range(50)), clients=8) == list(range(50))


def test_systems_are_chosen_by_name_in_the_order_of_the_tables() -> None:
    assert [system.name for system in chosen(["mosec", "bare"])] == ["bare", "mosec"]
    assert chosen([]) == list(SYSTEMS)
    with pytest.raises(ValueError, match="no system is called nonsense: there are bare, "):
        chosen(["nonsense"])
    assert {*OURS, *CEILINGS} <= {system.name for system in SYSTEMS}


def test_every_environment_pins_the_versions_of_what_is_compared() -> None:
    for environment in environments(SYSTEMS):
        assert "==" in environment.requirements[0], environment
    names = [environment.name for environment in environments(SYSTEMS)]
    assert len(names) == len(set(names))


def test_an_environment_that_was_not_set_up_says_how() -> None:
    environment = Environment("of-a-test-never-made", ("nothing==1",))
    with pytest.raises(PeerAbsent, match="python -m perf compare --setup"):
        environment.require()


def test_a_python_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    with pytest.raises(PeerAbsent, match="it needs Python 2.99"):
        find_python("2.99")


def test_a_command_that_fails_is_told_with_the_end_of_what_it_said() -> None:
    with pytest.raises(PeerAbsent, match="no such luck"):
        run([find_python(None), "-c", "import sys; sys.exit('no such luck')"])


def test_a_server_of_a_peer_is_there_within_the_block_and_not_after_it(tmp_path) -> None:
    code = "import os, time; print(f'up {os.getpid()} {os.getcwd()}', flush=True); time.sleep(600)"
    logs: list[str] = []

    def is_up(log: str) -> bool:
        logs.append(log)
        return log.endswith("\n")

    with serving([sys.executable, "-c", code], is_up, folder=tmp_path) as guard:
        _, pid, where = logs[-1].split()
        assert int(pid) in descendants(guard) and where == str(tmp_path)
    assert not Path(f"/proc/{pid}").exists()


def test_a_server_of_a_peer_that_ends_is_told_with_its_log() -> None:
    with (
        pytest.raises(PeerAbsent, match="its server ended .*no such luck"),
        serving([sys.executable, "-c", "import sys; sys.exit('no such luck')"], lambda log: False),
    ):
        pass


def test_arrays_get_the_names_that_google_gave_them() -> None:
    assert google_name("embeddings.word_embeddings.weight") == ("bert/embeddings/word_embeddings", False)
    assert google_name("encoder.layer.3.attention.output.LayerNorm.weight") == (
        "bert/encoder/layer_3/attention/output/LayerNorm/gamma",
        False,
    )
    assert google_name("encoder.layer.0.output.dense.weight") == ("bert/encoder/layer_0/output/dense/kernel", True)
    assert google_name("pooler.dense.bias") == ("bert/pooler/dense/bias", False)


def test_a_model_that_is_neither_known_nor_a_folder_is_named(tmp_path) -> None:
    with pytest.raises(ValueError, match="no model is called nonsense: there are minilm, base, bert, .*modules.json"):
        checkpoints.get("nonsense", tmp_path)


@pytest.mark.parametrize("name", RANDOM)
def test_random_weights_are_what_a_model_of_each_name_needs(tmp_path, name: str) -> None:
    """In small: export takes the checkpoint, and puts out finite numbers."""
    config = {**RANDOM[name], "hidden_size": 24, "num_hidden_layers": 2, "intermediate_size": 40}
    checkpoints.write_random(tmp_path / name, config)
    request = Request(str(tmp_path / name), "small", tmp_path / "repository")
    network = export(request, step=lambda what: contextlib.nullcontext()) / "model.onnx"
    ids = np.array([101, 2000, 2001, 102], np.int32)
    inputs = {"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": ids * 0, "pooling_mask": ids * 0 + 1}
    inputs |= dict.fromkeys((f"{each}_shape" for each in inputs), np.array([[4]], np.int32))
    (pooled,) = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"]).run(["pooled"], inputs)
    assert pooled.shape == (1, 4, 24)
    assert np.isfinite(pooled).all() and pooled.std() > 0.01


def test_the_same_seed_makes_the_same_weights() -> None:
    small = {**RANDOM["mpnet"], "hidden_size": 24, "num_hidden_layers": 1, "vocab_size": 9}
    first, again, other = random_weights(small), random_weights(small), random_weights(small, seed=1)
    name = "encoder.relative_attention_bias.weight"
    assert first.keys() == again.keys()
    assert np.array_equal(first[name], again[name]) and not np.array_equal(first[name], other[name])


def test_random_weights_have_the_shapes_of_the_config() -> None:
    config = {
        "model_type": "bert",
        "num_attention_heads": 2,
        "hidden_size": 8,
        "intermediate_size": 12,
        "num_hidden_layers": 2,
        "vocab_size": 20,
        "max_position_embeddings": 16,
        "type_vocab_size": 2,
    }
    arrays = random_weights(config)
    assert len(arrays) == 5 + 2 * 16 + 2
    assert arrays["encoder.layer.1.intermediate.dense.weight"].shape == (12, 8)
    assert arrays["embeddings.word_embeddings.weight"].shape == (20, 8)
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}
    assert all(
        np.array_equal(array, again)
        for array, again in zip(arrays.values(), random_weights(config).values(), strict=True)
    )
