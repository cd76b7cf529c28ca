"""What a node says when a step fails is shown, and what it means where we know."""

from __future__ import annotations

from coordinator.fleet.failures import SHOWN_CHARACTERS, last_words, sentence_of, sentence_of_hung

LOG = """\
{"event": "worker_starting", "level": "info", "worker": "n1"}
{"error": "there is no queue t-jobs", "event": "waiting_to_start", "level": "info"}
workerd: there is no queue t-jobs (waited 60 s)
"""


def test_our_own_log_is_shown_as_words() -> None:
    expected = "worker_starting\nwaiting_to_start: there is no queue t-jobs\nworkerd: there is no queue t-jobs (waited 60 s)"
    assert sentence_of(LOG, 1) == expected


def test_a_full_disk_is_called_one() -> None:
    said = sentence_of("tar: numpy: Cannot write: No space left on device\n", 2)
    assert said == "the node's disk is full: tar: numpy: Cannot write: No space left on device"


def test_nothing_said_is_said() -> None:
    assert sentence_of("\n", 7) == "it ended with status 7 and said nothing"
    assert sentence_of("", 137) == "it was ended from outside (status 137)"
    assert sentence_of_hung(300, []) == "it did not end within 5 m, and said nothing"


def test_what_it_was_doing_when_it_hung() -> None:
    assert sentence_of_hung(2, ["waiting for the network"]).endswith("within 2.0 s; it last said: waiting for the network")


def test_a_flood_is_cut() -> None:
    assert len(last_words(["x" * 5000] * 100)) == SHOWN_CHARACTERS
    assert last_words(["not { json", "{broken", '{"no": "event"}']) == 'not { json\n{broken\n{"no": "event"}'
