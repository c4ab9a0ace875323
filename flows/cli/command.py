"""Common behaviour of all commands: ``-q`` and ``-v``, the position of OUT, and messages about bad usage."""

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

_UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # not exported by Typer


class _Voice:
    """How much the command of this process prints."""

    quiet = verbose = False


def is_quiet() -> bool:
    """Return whether to print only errors and requested data."""
    return _Voice.quiet


def is_verbose() -> bool:
    """Return whether to print diagnostics as well."""
    return _Voice.verbose


def say(text: str, err: bool = False) -> None:
    """Print a message; nothing with ``-q``."""
    if not _Voice.quiet:
        typer.echo(text, err=err)


def tell(text: str) -> None:
    """Print a message to stderr; nothing with ``-q``."""
    say(text, err=True)


def console(stderr: bool = False) -> "Console":
    """Return a console for tables and progress bars; it prints nothing with ``-q``."""
    from rich.console import Console

    return Console(stderr=stderr, quiet=_Voice.quiet, emoji=False)  # a path may contain :on:


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
    """Typer app whose commands all take the common options."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(cls=keywords.pop("cls", CommandGroup), **keywords)

    def command(  # type: ignore[override]
        self, name: str | None = None, **keywords: Any
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Register a function as a command; keywords as for `typer.Typer.command`."""
        register = super().command(name, cls=Command, **keywords)

        def registered(function: Callable[..., Any]) -> Callable[..., Any]:
            register(_with_shared(function))
            return function

        return registered


def _with_shared(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the common options to a command, and an option for OUT if that is an argument."""
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
    """Return the annotation of a parameter that Typer reads."""
    return next(iter(getattr(parameter and parameter.annotation, "__metadata__", ())), None)


class Command(TyperCommand):
    """Command that accepts OUT, if an argument, as ``-o OUT`` as well, and ``~/`` as the home folder, as in inputs.

    Former spellings are still understood.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments after converting them to the current form."""
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
    """Expand ``~/``, which systemd leaves as it is, and bash after ``--out=``."""
    found = re.match(r"((?:--[\w-]+=|-o)?)(~/.*)", word, re.DOTALL)
    try:
        return word if found is None else f"{found[1]}{Path(found[2]).expanduser()}"
    except RuntimeError:  # an account without a home folder, as in containers
        return word


def _numbered_quiet(args: list[str]) -> list[str]:
    """Rename ``--quiet SECONDS``, a former option of `watch`, to its current name."""
    number = re.compile(r"\d*\.?\d+(e\d+)?|inf")
    found = []
    for place, word in enumerate(args):
        name, equals, value = word.partition("=")
        following = value if equals else next(iter(args[place + 1 :]), "")
        renamed = name == "--quiet" and number.fullmatch(following)
        found.append(f"--combine-after{equals}{value}" if renamed else word)
    return found


def _has_empty_out(args: list[str]) -> bool:
    """Return whether ``--out`` or ``-o`` has an empty value, as from an unset shell variable."""
    words = args[: args.index("--")] if "--" in args else args
    return "--out=" in words or any(one in ("-o", "--out") and not two for one, two in pairwise(words))


def _out_in_place(args: list[str], *, first: bool) -> list[str]:
    """Move the value of ``-o`` or ``--out`` to the position of the argument OUT: before or after the others."""
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
    """Group of commands that reports bad usage in our words."""

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
    """End the process in an orderly way at SIGTERM within the block, as at Ctrl-C, so that nothing is left behind.

    Errors during the ending are not printed; a second signal kills the process. Commands with something to finish
    install handlers of their own.
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
            if signal.getsignal(number) == signal.SIG_DFL:  # compiled code has replaced it by another error
                sys.exit(128 + number)
        raise
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)
        lost = signal.getsignal(signal.SIGALRM)
        if isinstance(lost, partial):  # an exit that waits to be raised again: do it now at the latest
            lost()


_ENDED_WITHIN_S = 90
"""Maximum time from the signal to the end of the process, s: an exception raised at an arbitrary point may leave a lock
held, such as that of logging, for which the threads joined at the end would wait forever."""


def _ended(number: int, _: Any) -> None:
    signal.signal(number, signal.SIG_DFL)
    signal.alarm(_ENDED_WITHIN_S)
    logging.disable()
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


_AGAIN_S = 0.05
"""Time between a lost exit and the next attempt, s."""


def _lost(found: Any) -> None:
    """Raise the exit of the process again if Python has dropped it, being raised in the removal of an object."""
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
    """Report bad usage and return the exit code. For a group without a command, help is no error."""
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
"""Phrases of Typer and Pydantic -> ours."""


def _plain(message: str) -> str:
    """Return a message about the usage of a command in our words."""
    for pattern, words in _WORDS:
        message = re.sub(pattern, words, message)
    message = re.sub(r"^(Missing \w+ |)((?:'[^']*'(?: / )?)+)", lambda found: found[0].replace("'", ""), message)
    return message if message.endswith((".", "?")) else f"{message}."
