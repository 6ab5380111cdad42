"""The verb `demo`: the whole story on models trained on the spot, without network or GPU."""

from pathlib import Path
from typing import Annotated

import typer

from pythia_profile.cli.app import app


@app.command(
    epilog="Examples: pythia-profile demo · pythia-profile demo --quick --out quick --seed 1"
)
def demo(
    out: Annotated[Path, typer.Option(help="Folder of the study.")] = Path("pythia-profile-demo"),
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Three sizes and three retrainings instead of four and five."),
    ] = False,
    seed: Annotated[
        int, typer.Option(help="Seed of corpus, weights, sample, bootstrap.", min=0)
    ] = 0,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes at a time; no number depends on it.",
            show_default="the cores at hand",
            min=1,
        ),
    ] = None,
) -> None:
    """Train the mini suite, profile it, and check the profile against the true counterfactual.

    Interrupted at any time, the same command goes on where it stopped; run again, it reuses what
    it finds.
    """
    from pythia_profile.pipeline.stages import run_all
    from pythia_profile.study import create_study, demo_study

    create_study(out, demo_study(quick=quick, seed=seed), replace=True)
    run_all(out, workers, typer.echo)
