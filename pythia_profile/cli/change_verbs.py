"""The verbs `set` and `compare`: other settings of a study, and two studies side by side."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from pythia_profile.cli.app import STUDY, verb
from pythia_profile.cli.options import HERE, AsJson, parsed_settings, print_json


@verb(STUDY, "set my-study draws=500 outcomes=log_likelihood,first_64", "set score.device=cpu")
def set_(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="STUDY NAME=VALUE",
            help="Folder of the study, this folder by default; then settings, as in study.toml.",
            show_default=False,
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Change settings of a study; say which stages run again.

    A setting is named by its section, or alone where only one section has it. Lists are words with
    commas. Nothing is run; the same change can be made in study.toml.
    """
    from pythia_profile.pipeline.running import check_settings
    from pythia_profile.pipeline.stages import explain_stages
    from pythia_profile.study import FILE_NAME, change_study, changed, open_study

    first, *rest = words
    named = "=" not in first or (Path(first) / FILE_NAME).is_file()
    study, pairs = (Path(first), rest) if named else (HERE, words)
    if not pairs:
        raise typer.BadParameter("name a setting and its value: NAME=VALUE")
    settings = parsed_settings(pairs, "set")
    check_settings(study, changed(open_study(study), settings))
    _, said = change_study(study, settings)
    states = explain_stages(study)
    again = [name for name, found in states.items() if found.state == "out of date"]
    following = f"pythia-profile run {shlex.quote(str(study))}"
    if as_json:
        print_json({"changed": said, "out of date": again, "next": following})
        return
    typer.echo(f"{study / FILE_NAME}: {said or 'nothing changed'}")
    if said and again:
        typer.echo(f"out of date: {', '.join(again)}\nnext: {following}")


@verb(STUDY, "compare my-study other-study", "compare first second --json")
def compare(
    a: Annotated[Path, typer.Argument(help="Folder of a study.")],
    b: Annotated[Path, typer.Argument(help="Folder of the other one.")],
    as_json: AsJson = False,
) -> None:
    """Show what differs between two studies.

    In their settings, in the lines and values of their tables, and in their mean effects.
    """
    from pythia_profile.pipeline.study_pair import compare_studies

    found = compare_studies(a, b)
    if as_json:
        print_json(found.as_dict())
    else:
        typer.echo(str(found))
