"""What travels by Systems Manager: commands that it does not change, output that it does not cut."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.fleet.managed_command import SHOWN_CHARACTERS, unwrapped, wrapped


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
