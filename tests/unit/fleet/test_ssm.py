"""What travels by Systems Manager: commands that it does not change, output that it does not cut."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.fleet.connections.managed_command import SHOWN_CHARACTERS, fetching, unwrapped, wrapped


@given(st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=200), st.text(st.characters(codec="ascii")))
def test_nothing_in_a_script_is_seen_by_the_service(script: str, url: str) -> None:
    words = wrapped(f"{{{{{script}}}}}", url.replace("{", ""), 5)
    assert "{{" not in words


@settings(max_examples=5)
@given(st.text(st.characters(exclude_characters="\0\r", codec="utf-8"), max_size=50), st.integers(0, 255))
def test_a_shell_gives_back_what_was_printed_and_the_status(text: str, status: int) -> None:
    script = f"cat <<'the end'\n{text}\nthe end\nexit {status}"
    shown = subprocess.run(["/bin/sh", "-c", wrapped(script, "", 30)], check=True, capture_output=True, text=True).stdout
    assert len(shown) <= SHOWN_CHARACTERS
    said = unwrapped(shown)
    assert said is not None
    assert (said.status, said.output, said.is_late) == (status, f"{text}\n", False)


@given(st.text())
def test_what_is_no_answer_is_not_taken_for_one(text: str) -> None:
    assert unwrapped(text) is None


@pytest.mark.parametrize(
    "shown", ["tilefleet-output 0 no", "tilefleet-output 0 no H4sI", "tilefleet-output x no aGk=", "tilefleet-output 0 no !"]
)
def test_an_answer_that_was_cut_is_none(shown: str) -> None:
    assert unwrapped(shown) is None


def test_a_presigned_url_is_in_no_command_line(tmp_path: Path) -> None:
    """curl notes its own command line, and is curl otherwise."""
    real = subprocess.run(["/bin/sh", "-c", "command -v curl"], check=True, capture_output=True, text=True).stdout.strip()
    (tmp_path / "curl").write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/words\nexec {real} "$@"\n', encoding="utf-8")
    (tmp_path / "curl").chmod(0o755)
    (tmp_path / "sent").write_text("what was sent", encoding="utf-8")
    url, remote = f"file://{tmp_path}/sent?X-Amz-Signature=secret", tmp_path / "got"
    digest = hashlib.sha256(b"what was sent").hexdigest()
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run(["/bin/sh", "-c", fetching(str(remote), url, digest, 1)], env=environment, check=True)
    assert remote.read_text(encoding="utf-8") == "what was sent"
    own_path = wrapped("cat", url, 30).replace("PATH=/usr/local", f"PATH={tmp_path}:/usr/local")
    said = unwrapped(subprocess.run(["/bin/sh", "-c", own_path], check=True, capture_output=True, text=True).stdout)
    assert said is not None
    assert said.output == "what was sent"
    words = (tmp_path / "words").read_text(encoding="utf-8")
    assert words.count("--config -") == 2
    assert "secret" not in words
