"""The file of a key: one reader, whoever asks."""

from __future__ import annotations

from pathlib import Path

import pytest

from client_sdk import InvalidArgument
from client_sdk._api_key import read_api_key
from client_sdk._commands.main import main

KEY = "a-key-of-more-than-16-characters"
NO_KEYS = [
    (b"", "is empty"),
    (b" \n\n", "is empty"),
    (f"{KEY}\nsecret\n".encode(), "has 2 lines"),
    (f"# secret\n\n{KEY}\n".encode(), "has 3 lines"),
    (b"secret\xff\n", "is not text"),
    (KEY.encode("utf-16"), "is not text"),
    ("sécret\n".encode(), "not printable ASCII"),
    (b"secret words\n", "or a space"),
]


@pytest.mark.parametrize("content", [KEY, f"{KEY}\n", f"{KEY}\r\n", f"  {KEY} \n\n"])
def test_the_key_is_the_one_line_of_its_file(tmp_path: Path, content: str) -> None:
    (tmp_path / "key").write_bytes(content.encode())
    assert read_api_key(tmp_path / "key") == KEY


@pytest.mark.parametrize(("content", "message"), NO_KEYS)
def test_a_file_that_holds_no_key_is_named_and_not_shown(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(InvalidArgument) as error:
        read_api_key(tmp_path / "key")
    assert message in str(error.value) and str(tmp_path / "key") in str(error.value)
    assert "secret" not in str(error.value) and KEY not in str(error.value)


@pytest.mark.parametrize(("command", "status"), [("serve", 1), ("info", 2), ("health", 1)])
def test_every_command_says_the_same_of_a_file(
    tmp_path: Path, command: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "key").write_text("one\ntwo\n")
    options = ["--model-repository", str(tmp_path)] if command == "serve" else ["--url", "127.0.0.1:1"]
    assert main([command, *options, "--api-key-file", str(tmp_path / "key")]) == status
    assert main([command, *options, "--api-key-file", str(tmp_path / "nowhere")]) == 1
    of_two_lines, missing = capsys.readouterr().err.splitlines()
    assert f"the key file '{tmp_path / 'key'}' has 2 lines: it must hold the key, in one line" in of_two_lines
    assert missing == f"error: {tmp_path / 'nowhere'}: No such file or directory"
