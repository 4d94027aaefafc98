"""The file of a gateway's keys."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from client_sdk import InvalidArgument
from client_sdk.gateway.keys import Keys

SEARCH = "a-long-random-key"
NIGHTLY = "another-long-random-key"


def digest(key: str) -> str:
    """As sha256sum writes it."""
    return hashlib.sha256(key.encode()).hexdigest()


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Two keys, one of them limited to 10 texts a second."""
    path = tmp_path / "keys"
    path.write_text(f"# who\n\nsearch {digest(SEARCH)} 10\nnightly {digest(NIGHTLY).upper()} # at night\n")
    return path


def test_a_key_is_known_by_its_hash(file: Path) -> None:
    keys = Keys(file)

    assert [keys.holder(key).name for key in (SEARCH, NIGHTLY)] == ["search", "nightly"]
    assert keys.holder("") is keys.holder(digest(SEARCH)) is keys.holder(SEARCH + "x") is None
    assert keys.holder("\udcff") is None


def test_texts_beyond_the_rate_wait_as_long_as_they_take(file: Path) -> None:
    clock = Clock()
    keys = Keys(file, clock)
    search, nightly = keys.holder(SEARCH), keys.holder(NIGHTLY)

    assert keys.wait(search, 10) == 0
    assert keys.wait(search, 1) > 0
    clock.now += 0.1
    assert keys.wait(search, 31) == 0
    assert keys.wait(search, 1) == pytest.approx(3)
    clock.now += 2.9
    assert keys.wait(search, 1) == pytest.approx(0.1)
    clock.now += 0.2
    assert keys.wait(search, 1) == 0
    assert [keys.wait(nightly, 10**9) for _ in range(3)] == [0, 0, 0]


def test_what_is_not_used_is_kept_for_a_second_alone(file: Path) -> None:
    clock = Clock()
    keys = Keys(file, clock)
    search = keys.holder(SEARCH)
    keys.wait(search, 1)
    clock.now += 3600

    taken = 0
    while keys.wait(search, 1) == 0:
        taken += 1

    assert taken == 10


def test_a_file_that_is_read_again_counts_on(file: Path) -> None:
    keys = Keys(file, Clock())
    keys.wait(keys.holder(SEARCH), 50)

    file.write_text(f"search {digest('a-new-key')} 10\n")
    assert keys.reload() == 1

    assert keys.holder(SEARCH) is keys.holder(NIGHTLY) is None
    assert keys.wait(keys.holder("a-new-key"), 1) == pytest.approx(4)


def test_a_file_that_cannot_be_read_again_changes_nothing(file: Path) -> None:
    keys = Keys(file)

    file.write_text("search\n")
    with pytest.raises(InvalidArgument, match="line 1 "):
        keys.reload()
    file.unlink()
    with pytest.raises(FileNotFoundError):
        keys.reload()

    assert keys.holder(SEARCH).name == "search"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no key"),
        ("# search\n", "has no key"),
        ("search", r"line 1 .* has 1 words: it must be NAME SHA256 \[TEXTS_A_SECOND\]"),
        (f"search {digest(SEARCH)} 10 20", "has 4 words"),
        (f"search {SEARCH}", "no SHA-256 of 64 hexadecimal digits"),
        (f"se/arch {digest(SEARCH)}", "a name that is not one of up to 64"),
        (f"search {digest(SEARCH)} fast", "says 'fast' texts a second: it must be a number from 0.001"),
        (f"search {digest(SEARCH)} 0", "from 0.001"),
        (f"search {digest(SEARCH)} 1e-320", "from 0.001"),  # of which a text would be paid back in infinite time
        (f"search {digest(SEARCH)} nan", "from 0.001"),
        (f"a {digest(SEARCH)}\nb {digest(SEARCH)}", "line 2 .* has a key of a line before"),
        (f"a {digest(SEARCH)}\na {digest(NIGHTLY)}", "line 2 .* has the name 'a' of a line before"),
        (b"\xff\xfe", "is not UTF-8 text"),
    ],
)
def test_a_file_that_is_no_list_of_keys_is_refused(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = tmp_path / "keys"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())

    with pytest.raises(InvalidArgument, match=message) as caught:
        Keys(path)

    assert SEARCH not in str(caught.value)
    assert digest(SEARCH) not in str(caught.value)
