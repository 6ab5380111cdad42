"""The verb `power`: how large an effect must be to be found, and how to spend a budget."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pythia_profile.cli.app import FACTS, verb
from pythia_profile.cli.options import AsJson, numbers_of, print_json

if TYPE_CHECKING:
    import polars as pl

    from pythia_profile.did.settings import Estimation


@verb(
    FACTS,
    "power my-study",
    "power my-study --target mean --batches 5,10 --rows 10 --controls 2000",
    "power my-study --covariates features,base",
    "power --cohorts 143 --tokens 2048 --budget 5e9 --json",
)
def power(
    study: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of the pilot, a study that has been scored.",
            show_default="the mini suite's smallest size, trained and scored once",
        ),
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Size of the pilot.", show_default="its first")
    ] = None,
    outcome: Annotated[str, typer.Option(help="Column of the scores.")] = "log_likelihood",
    effect: Annotated[
        str, typer.Option(help="instantaneous, persistent, residual or cohort.")
    ] = "instantaneous",
    target: Annotated[
        str, typer.Option(help="Effect of one 'cohort', or the 'mean' over cohorts.")
    ] = "cohort",
    cohorts: Annotated[
        int | None,
        typer.Option(help="Planned cohorts.", show_default="the pilot's", min=1),
    ] = None,
    checkpoints: Annotated[
        int | None,
        typer.Option(help="Planned checkpoints.", show_default="cohorts + 1", min=2),
    ] = None,
    tokens: Annotated[
        int | None, typer.Option(help="Scored tokens per row.", show_default="the pilot's", min=1)
    ] = None,
    batches: Annotated[str, typer.Option(help="Batches per cohort, with commas.")] = "5,10,20",
    rows: Annotated[str, typer.Option(help="Rows per batch, with commas.")] = "1,10",
    controls: Annotated[str, typer.Option(help="Never-treated rows, with commas.")] = "500,2000",
    family: Annotated[
        str,
        typer.Option(
            help="Simultaneous tests, with commas.",
            show_default="1, and the pilot's cells",
        ),
    ] = "",
    budget: Annotated[
        float | None,
        typer.Option(help="Scored tokens to spend.", show_default="the largest design's", min=1),
    ] = None,
    most_batches: Annotated[
        int | None,
        typer.Option(help="Batches available per cohort.", show_default="the pilot's", min=1),
    ] = None,
    most_rows: Annotated[
        int | None,
        typer.Option(
            help="Rows available per batch.",
            show_default="the suite's; no bound with --tokens, which plans for other rows",
            min=1,
        ),
    ] = None,
    most_controls: Annotated[
        int | None,
        typer.Option(
            help="Never-treated rows available.",
            show_default="those of the suite's own store; no bound with --tokens",
            min=2,
        ),
    ] = None,
    probability: Annotated[
        float, typer.Option("--power", help="Probability of detecting the effect.")
    ] = 0.8,
    level: Annotated[float, typer.Option(help="Simultaneous confidence level.")] = 0.95,
    covariates: Annotated[
        str,
        typer.Option(
            help="Plan for rows compared at equal values of these, with commas, such as "
            "features,base or features,reference,base; none for none.",
            show_default="those of study.toml",
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Plan sample sizes: the smallest detectable effects.

    Variances come from a pilot: STUDY, or the mini suite. Every combination of batches, rows,
    controls and families is a line of the table; below it, the best split of a budget of tokens,
    and what features of the rows and a reference model are worth, where the pilot has them.
    """
    from pythia_profile.did.settings import Estimation
    from pythia_profile.profiles.study_power import PowerPlan
    from pythia_profile.profiles.study_power import power as minimal_effects

    plan = PowerPlan(
        size=size,
        outcome=outcome,
        effect=effect,
        target=target,
        cohorts=cohorts,
        checkpoints=checkpoints,
        tokens=tokens,
        batches=tuple(numbers_of(batches, "--batches", int)),
        rows_per_batch=tuple(numbers_of(rows, "--rows", int)),
        controls=tuple(numbers_of(controls, "--controls", int)),
        families=tuple(numbers_of(family, "--family", float)) if family else (),
        budget=budget,
        most_batches=most_batches,
        most_rows=most_rows,
        most_controls=most_controls,
        power=probability,
    )
    Estimation(level=level)  # refused before a pilot is made
    folder = study or _made_pilot()
    if tokens is None:
        rows_there, controls_there = _rows_there(folder)
        plan = plan.replace(
            most_rows=rows_there if most_rows is None else most_rows,
            most_controls=controls_there if most_controls is None else most_controls,
        )
    found = minimal_effects(*_tables(folder), plan, _estimation(folder, level, covariates))
    if as_json:
        print_json(found.as_dict())
    else:
        typer.echo(str(found))


def _made_pilot() -> Path:
    """Return the folder of a study of the mini suite, made once in the user's cache."""
    from pythia_profile.mini.build import cache_folder
    from pythia_profile.pipeline.running import run_stage
    from pythia_profile.pipeline.stages import STAGES, is_current
    from pythia_profile.study import create_study, demo_study

    folder = cache_folder() / "pilot"
    study = create_study(folder, demo_study().replace(sizes=("xs",)), replace=True)
    for stage in (stage for stage in STAGES if stage.name in ("sample", "score")):
        if not is_current(folder, study, stage):
            run_stage(folder, stage.name)
    return folder


def _tables(folder: Path) -> "tuple[pl.DataFrame, pl.DataFrame]":
    from pythia_profile.pipeline.inputs import read_inputs
    from pythia_profile.study import open_study

    return read_inputs(folder, open_study(folder))


def _estimation(folder: Path, level: float, covariates: str) -> "Estimation":
    """Return the study's settings of estimates, at another level and with other covariates."""
    from pythia_profile.study import open_study

    own = open_study(folder).estimate.replace(level=level)
    if not covariates:
        return own
    names = () if covariates == "none" else tuple(map(str.strip, covariates.split(",")))
    return own.replace(covariates=names)


def _rows_there(folder: Path) -> tuple[int | None, int | None]:
    """Rows of a batch, and never-treated rows of the study's suite, where these are known.

    A suite whose store ends with the run takes rows of later steps as controls: as many as one
    likes. Nothing is fetched or packed, so stores elsewhere and held-out text bound nothing.
    """
    from pythia_profile.errors import ProfileError
    from pythia_profile.study import open_study, read_lock
    from pythia_profile.suites.registry import open_suite
    from pythia_profile.suites.sampling import open_rows

    study = open_study(folder)
    try:
        suite = open_suite(study.suite, seed=study.training_seed, near=folder)
        if (
            study.sample.held_out
            or suite.root is None
            or suite.store is None
            or suite.store.startswith("hf://")
        ):
            return suite.batch_size, None
        held_out = len(open_rows(suite)) - suite.order.rows
    except (ProfileError, OSError):
        return read_lock(folder).get("suite", {}).get("batch_size"), None
    return suite.batch_size, held_out if held_out > 1 else None
