"""The verb `power`: how large an effect must be to be found, and how to spend a budget."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pythia_profile.cli.app import app

if TYPE_CHECKING:
    import polars as pl

_EXAMPLES = """\b
Examples:
  pythia-profile power my-study
  pythia-profile power my-study --target mean --batches 5,10 --rows 10 --controls 2000
  pythia-profile power --cohorts 143 --tokens 2048 --budget 5e9 --json"""


@app.command(epilog=_EXAMPLES)
def power(
    study: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of the pilot, a study that has been scored.",
            show_default="the mini suite's smallest size, trained and scored once",
        ),
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Which of its sizes.", show_default="its first")
    ] = None,
    outcome: Annotated[str, typer.Option(help="Column of the scores.")] = "log_likelihood",
    effect: Annotated[
        str, typer.Option(help="instantaneous, persistent, residual or cohort.")
    ] = "instantaneous",
    target: Annotated[
        str, typer.Option(help="Effect of one 'cohort', or the 'mean' over cohorts.")
    ] = "cohort",
    cohorts: Annotated[
        int | None, typer.Option(help="Cohorts of the plan.", show_default="the pilot's", min=1)
    ] = None,
    checkpoints: Annotated[
        int | None,
        typer.Option(help="Scored checkpoints of the plan.", show_default="cohorts + 1", min=2),
    ] = None,
    tokens: Annotated[
        int | None, typer.Option(help="Scored tokens of a row.", show_default="the pilot's", min=1)
    ] = None,
    batches: Annotated[str, typer.Option(help="Batches a cohort, by commas.")] = "5,10,20",
    rows: Annotated[str, typer.Option(help="Rows a batch, by commas.")] = "1,10",
    controls: Annotated[str, typer.Option(help="Never-treated rows, by commas.")] = "500,2000",
    family: Annotated[
        str,
        typer.Option(
            help="Tests at a time, by commas.", show_default="1, and as many as the pilot's cells"
        ),
    ] = "",
    budget: Annotated[
        float | None,
        typer.Option(help="Scored tokens to split.", show_default="the largest design's", min=1),
    ] = None,
    most_batches: Annotated[
        int | None,
        typer.Option(help="Batches that a cohort has.", show_default="the pilot's", min=1),
    ] = None,
    probability: Annotated[
        float, typer.Option("--power", help="Probability of finding the effect.")
    ] = 0.8,
    level: Annotated[float, typer.Option(help="Simultaneous coverage.")] = 0.95,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say how large an effect must be to be found, and how best to spend a budget of tokens.

    The variances come from a pilot: STUDY, or the mini suite. Every combination of batches, rows,
    controls and families is a line of the table.
    """
    from pythia_profile.profiles.power import power as minimal_effects

    found = minimal_effects(
        *_pilot(study),
        size=size,
        outcome=outcome,
        effect=effect,
        target=target,
        cohorts=cohorts,
        checkpoints=checkpoints,
        tokens=tokens,
        batches=_numbers(batches, "--batches", int),
        rows_per_batch=_numbers(rows, "--rows", int),
        controls=_numbers(controls, "--controls", int),
        families=_numbers(family, "--family", float) if family else None,
        budget=budget,
        most_batches=most_batches,
        power=probability,
        level=level,
    )
    if as_json:
        import json

        typer.echo(json.dumps(found.as_dict()))
    else:
        typer.echo(str(found))


def _pilot(folder: Path | None) -> "tuple[pl.DataFrame, pl.DataFrame]":
    """Read rows and scores of a study; or of the mini suite's, made once in the user's cache."""
    from pythia_profile.inputs import read_inputs
    from pythia_profile.stages import STAGES, is_current, run_stage
    from pythia_profile.study import create_study, demo_study, open_study

    if folder is None:
        from pythia_profile.mini.build import cache_folder

        folder = cache_folder() / "pilot"
        study = create_study(folder, replace(demo_study(), sizes=("xs",)), replace=True)
        for stage in STAGES[:2]:
            if not is_current(folder, study, stage):
                run_stage(folder, stage.name)
    return read_inputs(folder, open_study(folder))


def _numbers(text: str, option: str, kind: Callable[[str], Any]) -> list[Any]:
    """Read numbers separated by commas."""
    try:
        return [kind(word) for word in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{option}: got '{text}', expected numbers, by commas") from None
