"""The command line as a user meets it: speed of help, one-line errors, exit codes."""

import logging
import os
import subprocess
import sys

import pytest
import typer

from pythia_profile.cli import app as pythia_profile
from pythia_profile.cli.app import ANYWHERE, Terminated, run
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


def test_every_verb_prints_json_where_it_is_asked_to():
    """All but those that stand for other verbs, such as `lab`, whose own verbs have it."""

    def verbs(command, names=()):
        if not (inner := getattr(command, "commands", None)):
            yield " ".join(names), {word for option in command.params for word in option.opts}
        for name, one in (inner or {}).items():
            yield from verbs(one, (*names, name))

    found = dict(verbs(typer.main.get_command(pythia_profile)))
    assert len(found) > 30
    assert [name for name, options in found.items() if "--json" not in options] == ["lab"]


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


@pytest.mark.parametrize("words", [["--quiet", "suites"], ["suites", "--quiet"], ["suites", "-q"]])
def test_global_options_stand_anywhere(words, capsys):
    assert run(pythia_profile, words) == 0
    assert "pythia-deduped" in capsys.readouterr().out
    assert logging.getLogger("pythia_profile").level == logging.WARNING


def test_questions_about_a_study_do_not_load_torch(tmp_path):
    verbs = [
        ["init", "study", "--suite", "mini"],
        ["set", "study", "draws=50"],
        ["status", "study"],
    ]
    code = (
        "import sys; from pythia_profile.cli import app; from pythia_profile.cli.app import run; "
        f"codes = [run(app, words) for words in {verbs}]; "
        "loaded = [m for m in ('torch', 'transformers') if m in sys.modules]; "
        "sys.exit(str((codes, loaded)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.stderr.splitlines()[-1] == "([0, 0, 0], [])"


@pytest.mark.parametrize("verb", ["across", "crossover", "insertions", "verify", "status"])
def test_the_study_is_this_folder_where_none_is_named(verb, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    assert run(pythia_profile, [verb]) == 2
    assert "no study in '.' (study.toml is missing)" in capsys.readouterr().err


def test_what_stands_behind_two_dashes_is_no_option(capsys):
    assert run(pythia_profile, ["suites", "--", "--quiet"]) == 2
    assert "no suite '--quiet'" in capsys.readouterr().err


def test_the_shell_completes_verbs():
    asked = {"COMP_WORDS": "pythia-profile co", "COMP_CWORD": "1"}
    code = "from pythia_profile.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **asked, "_PYTHIA_PROFILE_COMPLETE": "complete_bash"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert {"compare", "convert", "covariates", "counterfactual"} == {*done.stdout.split()}


def test_no_verb_takes_a_global_option_for_its_own():
    group = typer.main.get_command(pythia_profile)

    for name, verb in group.commands.items():
        options = {word for parameter in verb.params for word in parameter.opts}
        assert not options & ANYWHERE, name


def test_every_line_of_help_fits(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    group = typer.main.get_command(pythia_profile)

    for words in ([], *([name] for name in group.commands)):
        assert run(pythia_profile, [*words, "--help"]) == 0
        text = capsys.readouterr().out
        examples = text.partition("Examples:")[2].partition("Exit codes")[0]
        assert all(len(line) <= 80 for line in text.replace(examples, "\n").splitlines()), words
        assert "Exit codes: 0 done" in text
