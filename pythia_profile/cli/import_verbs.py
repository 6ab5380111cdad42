"""Verbs that enter a study with tables of other origin, and that leave it: `import`, `export`."""

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


@verb(STUDY, "export my-study --panels panels --effects effects.parquet")
def export(
    study: StudyFolder = HERE,
    panels: Annotated[
        Path | None, typer.Option(help="Folder for a panel of each size.", show_default="none")
    ] = None,
    effects: Annotated[
        Path | None, typer.Option(help="File for the effects of all sizes.", show_default="none")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write scores and effects in the published schema."""
    from pythia_profile.pipeline.entering import export_tables

    files = [str(path) for path in export_tables(study, panels=panels, effects=effects)]
    if as_json:
        print_json(files)
    else:
        typer.echo("\n".join(files))
