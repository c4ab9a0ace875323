"""Common behaviour of all commands: ``-q`` and ``-v``, the place of OUT, and messages about bad usage."""

import inspect
import json
import logging
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from functools import partial, wraps
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from rich.console import Console

_UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # which Typer does not export


class _Voice:
    """How much the command of this process says."""

    quiet = verbose = False


def is_quiet() -> bool:
    """Return whether nothing is to be said but errors and what was asked for as data."""
    return _Voice.quiet


def is_verbose() -> bool:
    """Return whether diagnostics are to be said, too."""
    return _Voice.verbose


def say(text: str, err: bool = False) -> None:
    """Print words for people; nothing with ``-q``."""
    if not _Voice.quiet:
        typer.echo(text, err=err)


def tell(text: str) -> None:
    """Print words for people to stderr; nothing with ``-q``."""
    say(text, err=True)


def console(stderr: bool = False) -> "Console":
    """Return a console for tables and progress; it prints nothing with ``-q``."""
    from rich.console import Console

    return Console(stderr=stderr, quiet=_Voice.quiet)


_SHARED: dict[str, Any] = {
    "be_quiet": Annotated[
        bool, typer.Option("--quiet", "-q", help="Say nothing but errors; the exit code tells, and --json.")
    ],
    "be_verbose": Annotated[
        bool, typer.Option("--verbose", "-v", help="Also say how long it took, and what lies behind an error.")
    ],
}
_SAME = Annotated[str | None, typer.Option("--out", "-o", metavar="OUT", help="The same as the argument OUT.")]


class Commands(typer.Typer):
    """Typer in which each command takes what all have in common."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(cls=keywords.pop("cls", CommandGroup), **keywords)

    def command(  # type: ignore[override]
        self, name: str | None = None, **keywords: Any
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Register a function as a command; keywords as of `typer.Typer.command`."""
        register = super().command(name, cls=Command, **keywords)

        def registered(function: Callable[..., Any]) -> Callable[..., Any]:
            register(_with_shared(function))
            return function

        return registered


def _with_shared(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command that takes the options that all have; OUT, where it is an argument, as an option besides."""
    signature = inspect.signature(function)
    added = dict(_SHARED)
    own = [_given(one) for one in signature.parameters.values()]
    is_argument = isinstance(_given(signature.parameters.get("out")), type(typer.Argument()))
    if is_argument and not any("--out" in (getattr(one, "param_decls", None) or ()) for one in own):
        added["same_out"] = _SAME

    @wraps(function)
    def command(**given: Any) -> Any:
        _Voice.quiet, _Voice.verbose = given.pop("be_quiet"), given.pop("be_verbose")
        given.pop("same_out", None)
        if _Voice.quiet and _Voice.verbose:
            raise typer.BadParameter("--quiet and --verbose exclude each other.")
        begun = perf_counter()
        try:
            return function(**given)
        finally:
            if _Voice.verbose:
                typer.echo(f"took {perf_counter() - begun:.2f} s", err=True)

    unset = {"same_out": None}
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=unset.get(name, False), annotation=kind)
        for name, kind in added.items()
    ]
    command.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *more])  # type: ignore[attr-defined]
    command.__annotations__ = {**function.__annotations__, **added}
    return command


def _given(parameter: inspect.Parameter | None) -> Any:
    """Return what Typer is told of a parameter."""
    return next(iter(getattr(parameter and parameter.annotation, "__metadata__", ())), None)


class Command(TyperCommand):
    """Command in which ``-o OUT`` is OUT wherever that is an argument, and ``~/`` is home, as in inputs.

    Old spellings keep their meaning.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments, once they are as the command has them now."""
        args = list(map(_at_home, args))
        names = {name for one in self.params for name in one.opts}
        if "--combine-after" in names:
            args = _numbered_quiet(args)
        if _has_empty_out(args):
            raise typer.BadParameter("--out is empty: name a folder, or '.' for this one.", ctx=ctx)
        if any(one.name == "same_out" for one in self.params):
            places = [one.name for one in self.params if one.param_type_name == "argument"]
            args = _out_in_place(args, first=places[0] == "out")
        return list(super().parse_args(ctx, args))


def _at_home(word: str) -> str:
    """Return a word with ``~/`` as the home folder, which systemd leaves as it is, and bash behind ``--out=``."""
    found = re.match(r"((?:--[\w-]+=|-o)?)(~/.*)", word, re.DOTALL)
    try:
        return word if found is None else f"{found[1]}{Path(found[2]).expanduser()}"
    except RuntimeError:  # an account without a home, as in containers
        return word


def _numbered_quiet(args: list[str]) -> list[str]:
    """Return ``--quiet SECONDS``, once an option of `watch`, as what it is called now."""
    number = re.compile(r"\d*\.?\d+(e\d+)?|inf")
    found = []
    for place, word in enumerate(args):
        name, equals, value = word.partition("=")
        following = value if equals else next(iter(args[place + 1 :]), "")
        renamed = name == "--quiet" and number.fullmatch(following)
        found.append(f"--combine-after{equals}{value}" if renamed else word)
    return found


def _has_empty_out(args: list[str]) -> bool:
    """Return whether ``--out`` or ``-o`` is followed by nothing, as where a variable of a shell is not set."""
    words = args[: args.index("--")] if "--" in args else args
    return "--out=" in words or any(one in ("-o", "--out") and not two for one, two in pairwise(words))


def _out_in_place(args: list[str], *, first: bool) -> list[str]:
    """Put the value of ``-o`` or ``--out`` where the command has OUT: before or after the other arguments."""
    for place, word in enumerate(args):
        if word == "--":
            break
        found = re.fullmatch(r"--out(?:=(.*))?|-([qv]*)o(.*)", word, re.DOTALL)
        if found is None:
            continue
        after, out = place + 1, found[1] if found[1] is not None else found[3]
        if not out and word != "--out=":
            if after == len(args):
                break
            after, out = after + 1, args[after]
        others = [f"-{found[2]}"] if found[2] else []
        rest = [*args[:place], *others, *args[after:]]
        return [out, *rest] if first else [*rest, out]
    return args


class CommandGroup(TyperGroup):
    """Group of commands that says in our words what is wrong with how it was called."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command, and end the process with its exit code."""
        given = sys.argv[1:] if args is None else list(args)
        if not standalone_mode:
            return super().main(given, prog_name, complete_var, False, windows_expand_args, **extra)
        with _ended_by_signals():
            try:
                code = super().main(given, prog_name, complete_var, False, windows_expand_args, **extra)
            except _UsageError as error:
                sys.exit(_refuse(error, "--json" in given))
            except typer.Abort:
                sys.exit(128 + signal.SIGINT)
        sys.exit(code or 0)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """End the process by its own hand at SIGTERM within the block, as at Ctrl-C, so that nothing is left behind.

    What ends with it says nothing; the second signal kills it. Commands that have something to finish have handlers of
    their own meanwhile.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    hook, sys.unraisablehook = sys.unraisablehook, _lost
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    before = {number: one for number, one in handlers.items() if one not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, _ended)
    try:
        yield
    except Exception:
        for number in before:
            if signal.getsignal(number) == signal.SIG_DFL:  # compiled code has made another error of it
                sys.exit(128 + number)
        raise
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)
        lost = signal.getsignal(signal.SIGALRM)
        if isinstance(lost, partial):  # an end that waits to be raised again: here, at the latest
            lost()


_ENDED_WITHIN_S = 90
"""From the signal to the end of the process, s, at most: an exception that is raised anywhere may leave a lock held,
that of logging for one, for which the threads that are joined at the end wait for ever."""


def _ended(number: int, _: Any) -> None:
    signal.signal(number, signal.SIG_DFL)
    signal.alarm(_ENDED_WITHIN_S)
    logging.disable()
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


_AGAIN_S = 0.05
"""From an end that was lost to the next attempt, s."""


def _lost(found: Any) -> None:
    """Raise the end of the process again that was raised where Python drops it: as an object was removed."""
    error, main = found.exc_value, threading.current_thread() is threading.main_thread()
    if not (main and isinstance(error, SystemExit | KeyboardInterrupt)):
        sys.__unraisablehook__(found)
        return
    signal.signal(signal.SIGALRM, partial(_raise, error))
    signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)


def _raise(error: BaseException, *_: Any) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_ENDED_WITHIN_S)
    raise error


def _refuse(error: Any, as_json: bool) -> int:
    """Say what is wrong with the words of a command; return the exit code. A group alone helps: no error."""
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(error.format_message())
        return 0
    command = error.ctx.command_path if error.ctx is not None else "nightstride"
    problem = _plain(error.format_message())
    param = getattr(error, "param", None)
    if param is not None and param.nargs > 1:
        wanted = f"{param.opts[0]} {param.metavar}"
        problem = f"{param.opts[0]}: {param.nargs} numbers are wanted, with a space between them: {wanted}."
    known = [name for one in error.ctx.command.params for name in one.opts] if error.ctx is not None else []
    close = get_close_matches(getattr(error, "option_name", ""), known, 1) if "No such option" in problem else []
    if extra := re.fullmatch(r"Unexpected argument: (\S+)\.", problem):
        name = "night" if re.fullmatch(r"\d{8}", extra[1]) else "out"
        given = getattr(error.ctx.get_parameter_source(name), "name", "") == "COMMANDLINE"
        close = [f"--{name} {extra[1]}"] if f"--{name}" in known and name not in known and not given else []
    if close and not close[0].startswith("-"):  # an argument
        close = [f"its value without {error.option_name}"]
    remedy = f"write {close[0]}, or see" if close else "see"
    typer.echo(f"{command}: {problem} To fix, {remedy} {command} --help.", err=True)
    if as_json:
        named = {
            "code": getattr(error, "code", "usage"),
            "where": command,
            "problem": problem,
            "remedy": f"{remedy} {command} --help.",
        }
        typer.echo(json.dumps({"error": named}))
    return int(error.exit_code)


_WORDS = (
    (r"^Invalid value(?: for (.*?))?: ", r"\1: "),
    (r"^: ", ""),
    (r"Input should be a valid integer\b.*", "must be a whole number."),
    (r"Input should be a valid number\b.*", "must be a number."),
    (r"Input should be a valid boolean\b.*", "must be true or false."),
    (r"Input should be greater than or equal to (\S+)", r"must be at least \1"),
    (r"Input should be less than or equal to (\S+)", r"must be at most \1"),
    (r"Input should be ", "must be "),
    (r"Value error, ", ""),
    (r"^Got unexpected extra arguments?(?:\(s\))? \((\S*)\)$", r"Unexpected argument: \1."),
    (r"^Got unexpected extra arguments?(?:\(s\))? \((.*)\)$", r"Unexpected arguments: \1."),
    (r"^No such option: (\S+)( \(Possible options: .*\))?$", r"No such option: \1."),
)
"""Words of Typer and Pydantic -> ours."""


def _plain(message: str) -> str:
    """Return a message on the usage of a command in our words."""
    for pattern, words in _WORDS:
        message = re.sub(pattern, words, message)
    message = re.sub(r"^(Missing \w+ |)((?:'[^']*'(?: / )?)+)", lambda found: found[0].replace("'", ""), message)
    return message if message.endswith((".", "?")) else f"{message}."
