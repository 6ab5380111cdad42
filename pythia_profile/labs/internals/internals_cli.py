"""Verbs of the lab `internals`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pythia_profile.cli.app import verb, verbs
from pythia_profile.cli.options import (
    HERE,
    AsJson,
    StudyFolder,
    Workers,
    parsed_settings,
    print_json,
)

if TYPE_CHECKING:
    import polars as pl

app = verbs("Where inside a model a memorized row is given back: layers, noise, heads.")

SECTION = "Verbs"
Out = Annotated[Path, typer.Option(help="Folder of tables, figures and the report.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A setting of what is measured."),
]


@verb(SECTION, "lab internals demo", "lab internals demo --out small --seed 1", group=app)
def demo(
    out: Out = Path("internals-demo"),
    seed: Annotated[int, typer.Option(min=0, help="Of corpus, weights and noise.")] = 0,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="Settings, in place of the demo's.")
    ] = None,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Look inside four small models of a planted corpus.

    Sequences occur 1 to 64 times, others never. The same command goes on where it was stopped; its
    settings are `internals.toml`, a file to start from.
    """
    from pythia_profile.labs.internals.internals_run import measure_planted
    from pythia_profile.labs.internals.internals_settings import InternalsSettings, demo_settings
    from pythia_profile.settings import checked, read_toml

    settings = demo_settings(seed)
    if config is not None:
        settings = checked(InternalsSettings, read_toml(config), f"'{config}'")
    _say(*measure_planted(settings, out, workers=workers), as_json)


@verb(
    SECTION,
    "lab internals run my-study --size xs,s --checkpoint 128",
    "lab internals run my-study --set strengths=[0.2] --set tuned_steps=0",
    group=app,
)
def run(
    folder: StudyFolder = HERE,
    size: Annotated[
        str | None,
        typer.Option(help="Which models, separated by commas.", show_default="the study's last"),
    ] = None,
    checkpoint: Annotated[
        int | None, typer.Option(help="Which step.", show_default="the last")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of tables, figures and the report.", show_default="internals/"),
    ] = None,
    settings: Set = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "cpu",
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Look inside checkpoints of a study.

    On the study's rows: memorized beside matched others and rows never read, and rows read beside
    rows not yet read, which a known order makes comparable. Settings are those of `measure` in the
    demo's file.
    """
    from pythia_profile.errors import StudyError
    from pythia_profile.execute.resources import chosen_device
    from pythia_profile.labs.internals.internals_run import measure_study
    from pythia_profile.labs.internals.internals_settings import Measuring
    from pythia_profile.settings import checked

    if size is not None and not all(name.strip() for name in size.split(",")):
        raise StudyError(
            f"--size: got '{size}', expected names separated by commas; leave it out for the last"
        )
    found = measure_study(
        folder,
        checked(Measuring, parsed_settings(settings or [], "--set"), "--set"),
        out or folder / "internals",
        sizes=size.split(",") if size else (),
        checkpoint=checkpoint,
        device=chosen_device(device),
        workers=workers,
    )
    _say(*found, as_json)


def _say(runs: "pl.DataFrame", page: Path, as_json: bool) -> None:
    if as_json:
        print_json({"runs": runs.to_dicts(), "report": str(page)})
        return
    for line in runs.iter_rows(named=True):
        typer.echo(
            f"{line['size']}, {line['parameters']:,} parameters, step {line['checkpoint']:,}: "
            f"{line['memorized']:,} of {line['read']:,} rows read are given back whole"
        )
    typer.echo(f"report: {page}")
