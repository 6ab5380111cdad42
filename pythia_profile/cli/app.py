"""The application object, its global options, and how an error becomes one line."""

import logging
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from typer.core import TyperGroup

from pythia_profile.errors import ProfileError
from pythia_profile.redaction import RedactingFormatter, redact

Verb = TypeVar("Verb", bound=Callable[..., Any])
SECTIONS = START, STUDY, STAGES, FACTS = (
    "Start here",
    "A study as a whole",
    "The stages of a study, in order",
    "Facts and planning",
)
"""Of the list of verbs; others that a verb names follow."""
MORE = "More"
ORDER = (
    *("demo", "init", "set", "plan", "run", "status", "compare", "verify", "import", "export"),
    *("sample", "covariates", "score", "att", "precision", "profile", "estimands", "check"),
    *("findings", "counterfactual", "remembered", "plot", "report"),
)
"""Verbs in the order in which a study uses them."""
ANYWHERE = {"-q", "--quiet", "--debug"}
"""Global options, which may stand behind the verb, too."""


class _Verbs(TyperGroup):
    """The verbs by section, each line whole."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Order the verbs as a study goes; others come behind these."""
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read global options wherever they stand before a `--`."""
        end = args.index("--") if "--" in args else len(args)
        found = [word for word in args[:end] if word in ANYWHERE]
        rest = [word for word in args[:end] if word not in ANYWHERE]
        return super().parse_args(ctx, [*found, *rest, *args[end:]])

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each group of verbs."""
        verbs = [self.commands[name] for name in self.list_commands(ctx)]
        panels = [getattr(verb, "rich_help_panel", None) or MORE for verb in verbs]
        for section in dict.fromkeys((*SECTIONS, *panels)):
            listed = [
                (f"{verb.name:<14}", verb.get_short_help_str(60))
                for verb, panel in zip(verbs, panels, strict=True)
                if panel == section
            ]
            if listed:
                with formatter.section(section):
                    formatter.write_dl(listed)


_EXIT_CODES = (
    "Exit codes: 0 done, 1 failed, 2 wrong usage or not found, 3 done except for failed or "
    "quarantined checkpoints, 4 refused beforehand, 130 and 143 interrupted (the same command "
    "resumes)."
)

_GLOBAL = "Options of every verb: -q or --quiet (no progress), --debug (tracebacks)."

app = typer.Typer(
    name="pythia-profile",
    cls=_Verbs,
    help="Memorization profiles: what training on a batch does to a model's memory of it.",
    epilog=_EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def verb(section: str, *examples: str, group: typer.Typer = app) -> Callable[[Verb], Verb]:
    """Make a function a verb of a section of the help; its first line must fit there.

    A module of verbs is mounted by importing it in `cli/__init__.py`; a group of verbs of its own
    by `app.add_typer(group, name=..., rich_help_panel=section)`.

    Parameters
    ----------
    examples : as they are typed behind `pythia-profile`.
    group : that the verb belongs to; made by `verbs`.
    """
    listed = "".join(f"\n  pythia-profile {example}" for example in examples)
    epilog = f"\b\nExamples:{listed}\n\n{_EXIT_CODES}\n\n{_GLOBAL}"

    def register(function: Verb) -> Verb:
        name = function.__name__.rstrip("_").replace("_", "-")  # `set_` is the verb `set`
        return group.command(name, rich_help_panel=section, epilog=epilog)(function)

    return register


def verbs(summary: str, kind: type[TyperGroup] = TyperGroup) -> typer.Typer:
    """Make a group of verbs of its own; its help begins with the line `summary`."""
    made = typer.Typer(
        cls=kind,
        help=summary,
        epilog=_EXIT_CODES,
        no_args_is_help=True,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    made.callback()(lambda: None)  # a group stays one, also where it holds a single verb
    return made


class Terminated(BaseException):
    """The process received SIGTERM, from a scheduler for instance."""


INTERRUPTED, TERMINATED = 130, 143
"""Exit codes of work that was interrupted and can be resumed."""


def _version(wanted: bool) -> None:
    if wanted:
        from pythia_profile import __version__

        typer.echo(f"pythia-profile {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[  # noqa: ARG001 (the callback reads it)
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks, debug log.")] = False,
) -> None:
    """Global options."""
    level = logging.DEBUG if debug else logging.WARNING if quiet else logging.INFO
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RedactingFormatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("pythia_profile").setLevel(level)
    logging.getLogger("data_order").setLevel(level)


def run(command: typer.Typer, arguments: Sequence[str]) -> int:
    """Run the command line over `arguments`; return its exit code.

    An error that a user can cause is one line on stderr; `--debug` adds the traceback.
    """
    try:
        command(list(arguments), prog_name="pythia-profile", standalone_mode=True)
    except SystemExit as stop:
        code = _code(stop)
        return _interrupted(arguments, code) if code == INTERRUPTED else code
    except Terminated:
        return _interrupted(arguments, TERMINATED)
    except ProfileError as error:
        return _failed(" ".join(str(error).split()), error.exit_code, "--debug" in arguments)
    except OSError as error:
        path = f": '{error.filename}'" if error.filename else ""
        return _failed(f"{error.strerror or error}{path}", 1, "--debug" in arguments)
    except Exception:
        sys.stderr.write(redact(_trace()))
        return 1
    return 0


def _failed(message: str, code: int, debug: bool) -> int:
    sys.stderr.write(redact(_trace() if debug else f"error: {message}").rstrip() + "\n")
    return code


def _trace() -> str:
    import traceback

    return traceback.format_exc()


def end_on_sigterm() -> None:
    """Let SIGTERM unwind the work as Ctrl-C does, so that workers end and leases are freed."""
    signal.signal(signal.SIGTERM, _terminate)


def _interrupted(arguments: Sequence[str], code: int) -> int:
    again = redact(shlex.join(["pythia-profile", *arguments]))
    sys.stderr.write(f"interrupted; resume with: {again}\n")
    return code


def _terminate(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    raise Terminated


def _code(stop: SystemExit) -> int:
    return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
