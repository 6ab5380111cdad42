"""The command line as a user meets it: speed of help, one-line errors, exit codes."""

import subprocess
import sys

import pytest
import typer

from pythia_profile.cli.app import Terminated, run
from pythia_profile.errors import RefusedError, not_found


def command(action):
    app = typer.Typer()

    @app.command()
    def verb(debug: bool = False):
        action()

    return app


def test_help_answers_without_the_heavy_libraries():
    heavy = ["torch", "transformers", "polars", "numpy", "matplotlib", "linearmodels", "pandas"]
    code = (
        "import sys; from pythia_profile.cli import app; from pythia_profile.cli.app import run; "
        f"run(app, ['--help']); sys.exit(str([m for m in {heavy} if m in sys.modules] or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.stderr.strip() == ""
    assert "Usage: pythia-profile" in done.stdout


def test_a_users_error_is_one_line_and_its_own_exit_code(capsys):
    def refuse():
        raise RefusedError("disk: needs 3 GB,\n has 1 GB")

    assert run(command(refuse), []) == 4
    assert capsys.readouterr().err == "error: disk: needs 3 GB, has 1 GB\n"


def test_debug_shows_where_an_error_came_from(capsys):
    def fail():
        raise not_found("suite", "minx", ["mini"])

    assert run(command(fail), ["--debug"]) == 2
    said = capsys.readouterr().err
    assert "in fail" in said
    assert "did you mean 'mini'" in said


def test_unknown_option_is_a_usage_error(capsys):
    assert run(command(lambda: None), ["--no-such-option"]) == 2
    assert "--no-such-option" in capsys.readouterr().err


@pytest.mark.parametrize(("stop", "code"), [(KeyboardInterrupt, 130), (Terminated, 143)])
def test_interrupted_work_says_how_to_go_on(capsys, stop, code):
    def work():
        raise stop

    assert run(command(work), ["--debug"]) == code
    assert "interrupted; resume with: pythia-profile --debug\n" in capsys.readouterr().err
