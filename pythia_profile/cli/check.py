"""The verb `check`: what the effects of a study rest on."""

from typing import Annotated

import typer

from pythia_profile.cli.app import app
from pythia_profile.cli.study import StudyFolder


@app.command(epilog="Example: pythia-profile check my-study --json")
def check(
    study: StudyFolder,
    as_json: Annotated[bool, typer.Option("--json", help="Print the tables as JSON.")] = False,
) -> None:
    """Check what the effects rest on: sensitivity, checkpoints, gaps, contrasts, witnesses.

    Sensitivity to trends that were not parallel (relative magnitudes and smoothness) with
    breakdown values; the influence of each checkpoint; gaps of treated rows to controls before
    treatment; late against early cohorts and size against size; regressions for contrast.
    Writes a table of each.
    """
    from pythia_profile.pipeline.stages import run_stage

    said = run_stage(study, "check")
    if not as_json:
        typer.echo(said)
        return
    import json

    import polars as pl

    from pythia_profile.tables import CHECKS

    finite = pl.selectors.float()
    tables = {
        table.name: pl.read_parquet(study / f"{table.name}.parquet")
        .with_columns(pl.when(finite.is_finite()).then(finite))
        .to_dicts()
        for table in CHECKS
    }
    typer.echo(json.dumps(tables))
