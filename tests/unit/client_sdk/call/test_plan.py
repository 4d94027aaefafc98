import random

from client_sdk._call.plan import (
    BATCH_CHARACTERS,
    BATCH_TOKENS,
    WINDOW_CHARACTERS,
    WINDOW_SECONDS,
    WINDOW_TEXTS,
    Batch,
    Room,
    cut,
    plan,
)


def texts_of_lengths(*lengths):
    return ["x" * length for length in lengths]


def test_every_text_is_in_one_batch_with_its_position():
    random.seed(0)
    texts = [("x" * random.randint(1, 50), "y") if random.random() < 0.3 else f"text {i}" for i in range(10_000)]
    batches = list(plan(iter(texts), Room(64)))
    placed = {position: text for batch in batches for position, text in zip(batch.positions, batch.texts, strict=True)}
    assert [placed[position] for position in range(len(texts))] == texts
    assert sum(len(batch.texts) for batch in batches) == len(texts)
    assert max(len(batch.texts) for batch in batches) == 64


def test_texts_of_like_length_travel_together_the_longest_first():
    batches = list(plan(texts_of_lengths(1, 30, 2, 29, 3, 28), Room(3)))
    assert [batch.positions for batch in batches] == [[1, 3, 5], [4, 2, 0]]


def test_pairs_and_single_texts_travel_apart():
    batches = list(plan(["a", ("b", "c"), "d", ("e", "f")], Room(64)))
    assert [batch.texts for batch in batches] == [["a", "d"], [("b", "c"), ("e", "f")]]


def test_a_stream_is_read_no_further_than_a_window():
    pulled = 0

    def stream():
        nonlocal pulled
        while True:
            pulled += 1
            yield "text"

    next(plan(stream(), Room(64), lambda: 0.0))
    assert pulled == WINDOW_TEXTS


def test_a_window_of_long_texts_is_shorter():
    pulled = 0

    def stream():
        nonlocal pulled
        while True:
            pulled += 1
            yield "x" * (1 << 20)

    next(plan(stream(), Room(64), lambda: 0.0))
    assert pulled == WINDOW_CHARACTERS >> 20


def test_a_batch_of_huge_texts_is_shorter():
    batches = list(plan(texts_of_lengths(BATCH_CHARACTERS + 1, *[1 << 21] * 3, 5), Room(64)))
    assert [batch.positions for batch in batches] == [[0], [1, 2], [3, 4]]


def test_texts_of_a_slow_stream_do_not_wait_for_a_whole_window(clock):
    def stream():
        for text in range(1000):
            clock.now += WINDOW_SECONDS / 10
            yield str(text)

    assert len(next(plan(stream(), Room(64), clock)).texts) <= 12


def sizes(room, *lengths):
    return [len(batch.texts) for batch in plan(texts_of_lengths(*lengths), room)]


def test_a_request_of_long_texts_costs_what_one_of_usual_texts_does():
    room = Room(64, BATCH_TOKENS, read=8192)
    assert sizes(room, *[30_000] * 10, *[8192] * 2, *[1024] * 32, *[512] * 65) == [4, 4, 4, 32, 64, 1]
    assert sizes(Room(64, BATCH_TOKENS), *[30_000] * 3) == [1] * 3  # it is not known how much of them is computed


def test_what_the_model_does_not_read_of_a_text_costs_nothing():
    assert sizes(Room(64, BATCH_TOKENS, read=512), *[20_000] * 130) == [64, 64, 2]
    assert Batch(["x" * 20_000, "xxx", ("xx", "x" * 7)], [0, 1, 2], read=512).tokens == 512 + 3 + 9
    assert Batch(["x" * 20_000], [0]).tokens == 20_000
    assert [piece.tokens for piece in cut(Batch(["x" * 900] * 3, [0, 1, 2], read=256), 2)] == [512, 256]


def test_a_prompt_costs_with_each_text():
    assert sizes(Room(64, BATCH_TOKENS, read=8192, before=8000), *[20] * 9) == [4, 4, 1]
    assert sizes(Room(64, BATCH_TOKENS, read=512, before=8000), *[20] * 65) == [64, 1]
    assert Batch(["x" * 20, ("xx", "x")], [0, 1], read=512, before=500).tokens == 512 + 503


def test_a_callers_own_size_holds_for_long_texts_too():
    assert sizes(Room(64, read=8192), *[30_000] * 65) == [64, 1]
