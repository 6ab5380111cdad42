"""Verbs that enter a study with tables of other origin, and that leave it: `import`, `export`."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from pythia_profile.cli.app import STUDY, verb
from pythia_profile.cli.options import HERE, AsJson, StudyFolder, print_json

Sized = Annotated[
    list[str] | None, typer.Option(metavar="SIZE=FILE", help="Panel of a size; repeatable.")
]


@verb(
    STUDY,
    "import theirs --suite pythia-deduped --panel 70m=70m.parquet --effects effects.parquet",
    "import ours --suite my-run --batch-size 512 --steps 20000 --losses 1b=losses/",
)
def import_(
    study: StudyFolder = HERE,
    suite: Annotated[
        str, typer.Option(help="Suite of the rows, or a folder with suite.toml.")
    ] = "pythia-deduped",
    panel: Sized = None,
    losses: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SIZE=PATH",
            help="Losses of ordered rows: columns index, loss, step, or a folder of files with "
            "index and loss named by their step; repeatable.",
        ),
    ] = None,
    effects: Annotated[
        Path | None, typer.Option(help="Effects in the published schema, of all sizes.")
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=0, help="Of a suite that is not known: rows of an optimizer step.")
    ] = 0,
    steps: Annotated[
        int, typer.Option(min=0, help="Of a suite that is not known: its optimizer steps.")
    ] = 0,
    training_seed: Annotated[int, typer.Option(min=0, help="Of the run.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Begin a study with a published panel, effects or losses.

    Needs no model. Treatment steps and cohorts are recomputed from each row's place in the training
    order; rows that the published code assigns otherwise are counted, and so are checkpoints with
    equal scores. Effects beside a panel are compared with our own of it. Then: `run`.
    """
    from pythia_profile.pipeline.entering import Given, import_tables

    notes = import_tables(
        study,
        Given(
            suite=suite,
            panels=_sized(panel, "--panel"),
            losses=_sized(losses, "--losses"),
            effects=effects,
            batch_size=batch_size,
            steps=steps,
            training_seed=training_seed,
        ),
    )
    if as_json:
        print_json({"study": str(study), "notes": notes})
    else:
        typer.echo("\n".join([*notes, f"next: pythia-profile run {study}"]))


def _sized(pairs: list[str] | None, option: str) -> dict[str, Path]:
    """Read SIZE=PATH pairs."""
    found: dict[str, Path] = {}
    for pair in pairs or []:
        size, equals, path = (word.strip() for word in pair.partition("="))
        if not (equals and size and path) or size in found:
            raise typer.BadParameter(
                f"{option}: got '{pair}', expected SIZE=FILE, such as 70m=70m.parquet, a size once"
            )
        found[size] = Path(path)
    return found


@verb(
    STUDY,
    "export my-study --to my-data --license CC-BY-4.0",
    "export my-study --to my-data --license CC0-1.0 --hub me/my-data --push",
    "export my-study --panels panels --effects effects.parquet",
)
def export(
    study: StudyFolder = HERE,
    to: Annotated[
        Path | None,
        typer.Option(
            help="New folder for a data set: all tables, a data card, Croissant metadata.",
            show_default="none",
        ),
    ] = None,
    licence: Annotated[
        str,
        typer.Option(
            "--license",
            help="Needed with --to, yours to choose: terms of the data set, SPDX name or address.",
            show_default=False,
        ),
    ] = "",
    name: Annotated[
        str, typer.Option(help="Name of the data set.", show_default="the study's folder")
    ] = "",
    tokens: Annotated[
        bool, typer.Option("--tokens", help="Include token ids of the rows: text of others, often.")
    ] = False,
    hub: Annotated[
        str, typer.Option(metavar="OWNER/NAME", help="Show what publishing --to there would send.")
    ] = "",
    push: Annotated[bool, typer.Option("--push", help="With --hub: do publish it.")] = False,
    panels: Annotated[
        Path | None,
        typer.Option(
            help="Folder for a panel of each size, in the published schema.", show_default="none"
        ),
    ] = None,
    effects: Annotated[
        Path | None,
        typer.Option(
            help="File for the effects of all sizes, in the published schema.", show_default="none"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a data set to publish, or the published schema.

    A data set has every table of the study, a data card, Croissant metadata, the settings and what
    was pinned. Nothing leaves this machine without --push.
    """
    from pythia_profile.pipeline.entering import export_tables
    from pythia_profile.pipeline.export import ExportOptions, export_study
    from pythia_profile.pipeline.publish import publish

    if (hub or push) and to is None:
        raise typer.BadParameter("--hub and --push go with --to")
    if push and not hub:
        raise typer.BadParameter("--push needs --hub OWNER/NAME")
    lines: list[str] = []
    if to is not None:
        options = ExportOptions(license=licence, name=name, tokens=tokens)
        lines += [str(to / path) for path in export_study(study, to, options)]
    if to is None or panels is not None or effects is not None:
        try:
            lines += [str(path) for path in export_tables(study, panels=panels, effects=effects)]
        except BaseException:
            if to is not None:  # made above: all that was asked for, or nothing
                shutil.rmtree(to, ignore_errors=True)
            raise
    if hub and to is not None:
        lines += publish(to, hub, push=push)
    if as_json:
        print_json(lines)
    else:
        typer.echo("\n".join(lines))
