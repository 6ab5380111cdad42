"""The application object, its global options, and how an error becomes one line."""

import logging
import shlex
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Annotated, NoReturn

import typer

from pythia_profile.errors import ProfileError
from pythia_profile.redaction import RedactingFormatter, redact

app = typer.Typer(
    name="pythia-profile",
    help="Memorization profiles: what training on a batch does to a model's memory of it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Terminated(BaseException):
    """The process was told to end (SIGTERM), by a scheduler for instance."""


INTERRUPTED, TERMINATED = 130, 143
"""Exit codes of work that was broken off and can be gone on with."""


def _version(wanted: bool) -> None:
    if wanted:
        from pythia_profile import __version__

        typer.echo(f"pythia-profile {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[  # noqa: ARG001 (the callback reads it)
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print and exit.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Tracebacks and debug log.")] = False,
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

    An error that a user can cause is one line on stderr; `--debug` shows where it came from.
    """
    try:
        command(list(arguments), prog_name="pythia-profile", standalone_mode=True)
    except SystemExit as stop:
        code = _code(stop)
        return _interrupted(arguments, code) if code == INTERRUPTED else code
    except Terminated:
        return _interrupted(arguments, TERMINATED)
    except ProfileError as error:
        said = f"error: {' '.join(str(error).split())}"
        sys.stderr.write(redact(_trace() if "--debug" in arguments else said).rstrip() + "\n")
        return error.exit_code
    except OSError as error:
        place = f": '{error.filename}'" if error.filename else ""
        said = f"error: {error.strerror or error}{place}\n"
        sys.stderr.write(redact(_trace() if "--debug" in arguments else said))
        return 1
    except Exception:
        sys.stderr.write(redact(_trace()))
        return 1
    return 0


def _trace() -> str:
    import traceback

    return traceback.format_exc()


def end_on_sigterm() -> None:
    """Let SIGTERM unwind the work as Ctrl-C does, so that workers end and leases are freed."""
    signal.signal(signal.SIGTERM, _terminate)


def _interrupted(arguments: Sequence[str], code: int) -> int:
    again = redact(shlex.join(["pythia-profile", *arguments]))
    sys.stderr.write(f"interrupted; to go on: {again}\n")
    return code


def _terminate(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    raise Terminated


def _code(stop: SystemExit) -> int:
    return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
