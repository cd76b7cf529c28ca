"""Negative factors are written as they are; a mistyped option stays one."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.cli import compute
from coordinator.cli.main import run
from tilefleet.submission import Request, scalar_text


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """What would be submitted."""
    requests: list[Request] = []
    monkeypatch.setattr(compute, "carry_out", lambda _session, request, _manner: requests.append(request))
    return requests


@pytest.mark.parametrize("factor", ["-1", "-0.5", "-.5", "-1e-3", "-1+2j", "-2j", "2", "1+2j"])
@pytest.mark.parametrize(
    "order", [["a.npy", "F", "-o", "q.npy"], ["-o", "q.npy", "a.npy", "F"], ["a.npy", "-o", "q.npy", "--", "F"]]
)
def test_a_factor_in_its_natural_form(asked: list[Request], factor: str, order: list[str]) -> None:
    assert run(["scale", *(factor if word == "F" else word for word in order)]) == 0
    [request] = asked
    assert (request.a, scalar_text(request.alpha, "alpha"), request.out) == ("a.npy", factor, "q.npy")


def test_the_value_of_an_option_may_look_like_a_number(asked: list[Request]) -> None:
    assert run(["scale", "a.npy", "-2", "-o", "-1"]) == 0
    assert asked[0].out == "-1"
    assert run(["multiply", "a.npy", "b.npy", "--alpha", "-1", "--beta=-2", "--c", "c.npy"]) == 0
    assert (asked[1].alpha, asked[1].beta) == ("-1", "-2")


@pytest.mark.parametrize("arguments", [["scale", "a.npy", "2", "-x"], ["multiply", "a.npy", "b.npy", "-1"]])
def test_a_mistyped_option_is_a_mistake(asked: list[Request], arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    assert asked == []
    assert "No such option" in capsys.readouterr().err


def test_the_transpose_of_the_matrix_that_is_added(asked: list[Request], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["multiply", "a.npy", "b.npy", "--add-to", "c.npy", "--transpose-c"]) == 0
    assert asked[0].sources["c"] == ("c.npy", True)
    assert run(["multiply", "a.npy", "b.npy", "--transpose-c"]) == 2
    assert "--transpose-c goes with --add-to" in capsys.readouterr().err


def test_random_says_no_seed_before_it_has_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["random", "3x3", str(tmp_path / "x.npy"), "--low", "5", "--high", "1"]) == 3
    assert "seed" not in capsys.readouterr().err
