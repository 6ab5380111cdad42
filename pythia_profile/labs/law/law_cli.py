"""Verbs of the lab `law`."""

from pathlib import Path
from typing import Annotated

import typer

from pythia_profile.cli.app import verb, verbs
from pythia_profile.cli.options import AsJson, print_json

app = verbs("How what adapters learn by heart grows with rank and length.")

SECTION = "Verbs"


@verb(
    SECTION,
    "lab law fit runs.parquet",
    "lab law fit runs.csv --method sft --saturated 0.2 --json",
    group=app,
)
def fit(
    table: Annotated[
        Path,
        typer.Argument(help="Runs: columns rank, answer_tokens, loss, base_loss (.parquet, .csv)."),
    ],
    method: Annotated[
        str | None, typer.Option(help="Method to fit.", show_default="the only one")
    ] = None,
    saturated: Annotated[
        float, typer.Option(help="Loss below which a run is left out, nats per token.")
    ] = 0.1,
    draws: Annotated[int, typer.Option(help="Bootstrap draws.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Fit four forms of the law to a table of runs.

    Refuses exponents where the profile likelihood is flat. Saturated runs are left out.
    """
    from dataclasses import asdict

    from pythia_profile.labs.law.law_fit import Fitting, fit_law, read_runs

    settings = Fitting(saturated=saturated, draws=draws, seed=seed)
    found = fit_law(read_runs(table), settings, method=method)
    if as_json:
        exponents = asdict(found.identified)
        if found.identified.flat:
            exponents |= {"alpha": None, "beta": None}
        print_json(
            {
                "cells": len(found.cells.gain),
                "dropped": found.dropped,
                "forms": found.table().to_dicts(),
                "exponents": exponents,
                "bootstrap": found.intervals,
                "sentences": found.sentences(),
            }
        )
        return
    for line in found.table().iter_rows(named=True):
        said = [
            f"{name} {line[name]:.4g}"
            for name in ("c", "C", "alpha", "beta", "b")
            if line[name] is not None
        ]
        typer.echo(
            f"{line['form']:<13} R² {line['r2']:.4f}  AICc +{line['aicc_above_best']:.1f}  "
            f"rank left out: {line['left_out_rmse']:.4f} nats  {'  '.join(said)}"
        )
    for sentence in found.sentences():
        typer.echo(sentence)
