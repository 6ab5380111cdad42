"""The README is a contract: its commands are what CI runs, its examples work, its links lead on."""

import doctest
import re
from pathlib import Path

import pytest

from pythia_profile import tables
from pythia_profile.cli import app
from pythia_profile.cli.app import run

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SHELL = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)


def test_the_two_commands_stand_first_and_ci_runs_the_second():
    first, second = (block.strip() for block in SHELL[:2])

    assert first.endswith("pythia-profile demo")
    assert second.endswith("-m pytest -n auto")
    assert "constraints.txt" in first
    assert "constraints.txt" in second
    script = (ROOT / ".ci" / "run").read_text().splitlines()
    assert second in script


def test_every_verb_the_readme_names_exists(capsys):
    verbs = set(re.findall(r"(?:^|[`/])pythia-profile ([a-z]+)", README, re.MULTILINE))

    assert run(app, ["--help"]) == 0
    known = capsys.readouterr().out
    for verb in verbs:
        assert re.search(rf"^  {verb} ", known, re.MULTILINE), verb


def test_every_file_the_readme_names_is_there():
    named = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    tree = re.findall(r"^(\w[\w./]*(?:/|\.py))\s{2,}", README, re.MULTILINE)

    for path in [*named, *tree]:
        assert (ROOT / path).exists(), path


def test_python_examples_run_as_written():
    result = doctest.testfile(str(ROOT / "README.md"), module_relative=False)

    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("pin", ["torch==2.13.0"])
def test_the_tested_versions_are_pinned_in_the_constraints_alone(pin):
    constraints = (ROOT / "constraints.txt").read_text().splitlines()

    assert pin in constraints
    assert all(
        re.fullmatch(r"[A-Za-z0-9._-]+==\S+", line) for line in constraints if line[:1] != "#"
    )
    assert "==" not in re.search(r"dependencies = \[(.*?)\]", _pyproject(), re.DOTALL)[1]


def _pyproject() -> str:
    return (ROOT / "pyproject.toml").read_text()


def test_the_table_of_tables_is_in_step_with_their_contracts():
    contracts = {t.name: t for t in vars(tables).values() if isinstance(t, tables.Table)}
    lines = re.findall(r"^\| `(\w+)\.parquet` \| [^|]* \| (.*) \|$", README, re.MULTILINE)

    assert len(lines) > 10
    assert {name for name, _ in lines} <= set(contracts)
    of_columns = ("rows", "att", "placebo", "precision", "leave_one_out")
    for name, text in lines:
        if name in of_columns:
            words = set(re.findall(r"`([a-z_]+)`", text)) - {"second_step"}  # where it is known
            assert words <= set(contracts[name].columns), name


def test_lines_are_of_a_length_that_one_reads():
    fenced, long = False, []
    for line in README.splitlines():
        fenced ^= line.startswith("```")
        if not fenced and not line.startswith(("|", "```", "!")) and len(line) > 120:
            long.append(line)

    assert long == []
