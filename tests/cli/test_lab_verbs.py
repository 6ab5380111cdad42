"""Labs are found by name; one is imported only when it is called."""

import subprocess
import sys

import pytest

from pythia_profile import labs
from pythia_profile.cli import app
from pythia_profile.cli.app import run

VERBS = """
import typer
from pythia_profile.cli.app import verbs, verb
app = verbs("A lab of one verb.")

@verb("Verbs", "lab telepathy guess --times 2", group=app)
def guess(times: int = 1) -> None:
    '''Guess as often as asked.'''
    typer.echo("red " * times)
"""


@pytest.fixture
def telepathy(tmp_path, monkeypatch):
    """A lab beside no others, in a folder of its own."""
    folder = tmp_path / "telepathy"
    folder.mkdir()
    (folder / "__init__.py").write_text('"""What one is thinking of."""\n')
    (folder / "telepathy_cli.py").write_text(VERBS)
    monkeypatch.setattr(labs, "__path__", [str(tmp_path)])
    yield
    for name in [name for name in sys.modules if "telepathy" in name]:
        del sys.modules[name]


def test_a_lab_is_listed_by_what_it_asks_and_imported_when_called(telepathy, capsys):
    assert run(app, ["lab", "--help"]) == 0
    assert "telepathy  What one is thinking of." in capsys.readouterr().out
    assert "pythia_profile.labs.telepathy.telepathy_cli" not in sys.modules

    assert run(app, ["lab", "telepathy", "--help"]) == 0
    assert "Guess as often as asked." in capsys.readouterr().out
    assert run(app, ["lab", "telepathy", "guess", "--times", "2", "--quiet"]) == 0
    assert capsys.readouterr().out == "red red \n"
    assert run(app, ["lab", "telepathy", "guess", "--help"]) == 0
    assert "pythia-profile lab telepathy guess --times 2" in capsys.readouterr().out


def test_an_unknown_lab_is_one_line(telepathy, capsys):
    assert run(app, ["lab", "telepaty", "guess"]) == 2
    assert "no lab 'telepaty'; known labs: telepathy" in capsys.readouterr().err


def test_the_list_of_labs_loads_nothing_heavy():
    heavy = ["torch", "transformers", "polars", "numpy", "matplotlib"]
    code = (
        "import sys; from pythia_profile.cli import app; from pythia_profile.cli.app import run; "
        f"run(app, ['lab', '-h']); sys.exit(str([m for m in {heavy} if m in sys.modules] or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.stderr.strip() == ""
    assert "Usage: pythia-profile lab" in done.stdout
