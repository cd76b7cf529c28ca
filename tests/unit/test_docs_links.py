"""Documents do not rot silently: relative links lead somewhere, and the commands they show are commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import typer.main

from coordinator.cli.door import app
from coordinator.cli.families import declare

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
SHOWN = [page for page in PAGES if page.name != "cli.md"]  # that one is made from the commands themselves
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_SHELLS = {"sh", "bash", "console"}
declare()
TREE: Any = typer.main.get_command(app)
UsageError: Any = typer.BadParameter.__base__  # of click, or of the copy of it in newer typers


def links(page: Path) -> list[str]:
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    return [link for link in _LINK.findall(text) if not re.match(r"[a-z]+:", link)]


def anchors(page: Path) -> set[str]:
    """Those that GitHub gives headings."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken(page: Path) -> list[str]:
    found = []
    for link in links(page):
        name, _, anchor = unquote(link).partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# One heading\n")
    page = tmp_path / "page.md"
    page.write_text("[a](other.md#one-heading) [b](other.md#two) [c](nothing.md)\n```sh\n[d](code.md)\n```\n")
    assert broken(page) == ["other.md#two", "nothing.md"]


def test_every_page_is_reached_from_the_index() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        targets = {(page.parent / unquote(link).partition("#")[0]).resolve() for link in links(page)}
        waiting += [target for target in targets if target.suffix == ".md" and target not in reached]
    assert [page for page in PAGES if page not in reached] == []


def commands(page: Path) -> Iterator[list[str]]:
    """The ``tilefleet …`` lines of the page's shell blocks, in words; comments and prompts left out."""
    for language, block in _FENCE.findall(page.read_text(encoding="utf-8")):
        if language not in _SHELLS:
            continue
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|\|\||;|\|", line):
                try:
                    words = shlex.split(part.removeprefix("$ "), comments=True)
                except ValueError:
                    continue  # half of a quoted program, such as jq's
                while words and re.match(r"[A-Z_]+=", words[0]):
                    words.pop(0)
                if words and words[0].rsplit("/", 1)[-1] == "tilefleet":
                    yield words[1:]


def parse(words: list[str]) -> None:
    """Parse as the command would, without doing it. Raises ``UsageError``."""
    command, parent, name = TREE, None, "tilefleet"
    while True:
        context = command.make_context(name, list(words), parent=parent)
        if not hasattr(command, "resolve_command"):
            return
        rest = [*getattr(context, "_protected_args", ()), *context.args]
        name, command, words = command.resolve_command(context, rest)
        parent = context


@pytest.mark.parametrize("page", SHOWN, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_are_commands(page: Path) -> None:
    for words in commands(page):
        try:
            parse(words)
        except typer.Exit as done:  # --help, --version
            assert done.exit_code == 0
        except UsageError as error:
            pytest.fail(f"{page.relative_to(ROOT)}: tilefleet {shlex.join(words)}: {error.format_message()}")


def test_the_pages_show_commands() -> None:
    assert sum(len(list(commands(page))) for page in SHOWN) > 50


@pytest.mark.parametrize(
    "words", [["multiplicate", "a", "b"], ["multiply", "a"], ["multiply", "a", "b", "--loud"], ["list", "-n", "x"]]
)
def test_what_is_no_command_is_found(words: list[str]) -> None:
    with pytest.raises(UsageError):
        parse(words)
