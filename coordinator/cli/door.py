"""How commands are declared: a function that takes a Session, a family it is listed under, and examples for its help.

Every command also takes the options of ``EVERYWHERE``, before or after its name.
"""

from __future__ import annotations

import functools
import inspect
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from coordinator.cli.families import FAMILIES
from coordinator.cli.help import EVERYWHERE, as_text, describe, ordered
from coordinator.cli.session import Session
from tilefleet.version import __version__

Examples = Sequence[tuple[str, str]]
"""(command line, what it does)"""

ConfigOption = Annotated[str | None, typer.Option("--config", help=EVERYWHERE["--config"], metavar="FILE")]
JsonOption = Annotated[bool, typer.Option("--json", help=EVERYWHERE["--json"])]
DebugOption = Annotated[bool, typer.Option("--debug", help=EVERYWHERE["--debug"])]


def _version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"tilefleet {__version__}")
        raise typer.Exit


VersionOption = Annotated[
    bool, typer.Option("--version", help='Print the version; "tilefleet version" has more.', callback=_version, is_eager=True)
]
_COMMON = {"config": ConfigOption, "json": JsonOption, "debug": DebugOption}


FACTOR = "ALPHA"  # metavar of an argument that may be negative
_NEGATIVE = re.compile(r"-\.?[0-9]")


def _with_negative_numbers(args: list[str], takes_value: set[str]) -> list[str]:
    end = args.index("--") if "--" in args else len(args)
    before = ["", *args]
    return [f" {arg}" if i < end and _NEGATIVE.match(arg) and before[i] not in takes_value else arg for i, arg in enumerate(args)]


def _names_with_value(parameter: Any) -> list[str]:
    return [] if parameter.param_type_name == "argument" or parameter.is_flag else list(parameter.opts)


class Command(TyperCommand):
    """A command whose help is ours, and which takes a negative number for ALPHA as it is."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """click takes what begins with "-" for an option; a number that is no option's value is hidden from it by a blank."""
        if any(parameter.metavar == FACTOR for parameter in self.params):
            args = _with_negative_numbers(args, {name for one in self.params for name in _names_with_value(one)})
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The usage line above a mistake in the command line: the same as in the help."""
        return describe(self, ctx.command_path).usage.removeprefix(ctx.command_path).split()

    def format_help(self, ctx: Any, formatter: Any) -> None:
        formatter.write(as_text(describe(self, ctx.command_path)))


class Group(TyperGroup):
    """A group whose help is ours, and which lists its commands by family."""

    order: ClassVar[Sequence[str]] = ()
    """Commands that come first, in this order; the others follow as they were declared."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for name, _ in ordered(self)]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        formatter.write(as_text(describe(self, ctx.command_path)))


class Root(Group):
    """All commands, in the order of the table, whichever modules were loaded first."""

    order = tuple(dict.fromkeys(word for words in FAMILIES.values() for word in words))


app = typer.Typer(
    name="tilefleet",
    cls=Root,
    rich_markup_mode=None,  # our own help: verbatim examples, no boxes on a pipe, 65 ms less
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    epilog="tilefleet random 2000x2000 a.csv\tmake a matrix\n"
    "tilefleet multiply a.csv a.csv -o c.npy\tmultiply it by itself, with the embedded deployment on this machine\n"
    "tilefleet head c.npy\tlook at the result\n"
    "tilefleet multiply --help\tall about one command",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def door(
    ctx: typer.Context,
    config: ConfigOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
    version: VersionOption = False,
) -> None:
    """Dense matrix computation on a fleet of machines, or on this one."""
    del (
        version,
        debug,
    )  # the latter is read from the command line itself, so that it also works for mistakes in the command line (main.py)
    ctx.obj = Session(config_path=config, is_json=json)


def family(name: str, summary: str, *, under: str, order: Sequence[str] = ()) -> typer.Typer:
    """A group of commands, such as ``tilefleet local``, listed in family ``under``."""
    kind = type("Group", (Group,), {"order": tuple(order)})
    group = typer.Typer(cls=kind, rich_markup_mode=None, no_args_is_help=True, help=summary)
    app.add_typer(group, name=name, rich_help_panel=under)
    return group


def command(
    name: str,
    *,
    under: str = "",
    examples: Examples = (),
    of: typer.Typer = app,
    aliases: Sequence[str] = (),
    is_verbatim: bool = False,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Declare ``function(session, …)`` as the command ``name``; aliases work and are not listed. ``is_verbatim``: what follows
    the first argument is no option of ours."""
    settings = {"allow_interspersed_args": not is_verbatim}

    def declare(function: Callable[..., None]) -> Callable[..., None]:
        wrapped = _with_common_options(function)
        epilog = "\n".join(f"{line}\t{purpose}" for line, purpose in examples)
        for alias in (name, *aliases):
            declared = of.command(
                alias, cls=Command, epilog=epilog, rich_help_panel=under, hidden=alias != name, context_settings=settings
            )
            declared(wrapped)
        return function

    return declare


def _with_common_options(function: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(function)
    def wrapped(ctx: typer.Context, config: str | None, json: bool, debug: bool, **arguments: Any) -> None:
        del debug
        outer = ctx.find_object(Session) or Session()
        session = Session(config or outer.config_path, json or outer.is_json, "tilefleet " + shlex.join(sys.argv[1:]))
        function(session, **arguments)

    hints = get_type_hints(function, include_extras=True)
    own = [
        parameter.replace(annotation=hints[parameter.name])
        for parameter in list(inspect.signature(function).parameters.values())[1:]
    ]
    keyword = inspect.Parameter.KEYWORD_ONLY
    context = inspect.Parameter("ctx", keyword, annotation=typer.Context)
    common = [
        inspect.Parameter(name, keyword, default=None if name == "config" else False, annotation=annotation)
        for name, annotation in _COMMON.items()
    ]
    parameters = [context, *(parameter.replace(kind=keyword) for parameter in own), *common]
    wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # how typer learns the options
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapped
