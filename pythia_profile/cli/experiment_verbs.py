"""Verbs for experiments in the training: other orders of the same rows, planted texts."""

from pathlib import Path
from typing import Annotated

import typer

from pythia_profile.cli.app import FACTS, STUDY, verb
from pythia_profile.cli.options import HERE, AsJson, StudyFolder, Workers, print_json


@verb(
    STUDY,
    "crossover my-study other-seed",
    "crossover my-mini-study --size xs --fork-at 128 --forks 2",
)
def crossover(
    study: StudyFolder = HERE,
    others: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Folders of studies whose runs read the same rows in other orders.",
            show_default="forks of the study's own run, mini suite only",
        ),
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Size that is forked.", show_default="its first")
    ] = None,
    fork_at: Annotated[
        int | None,
        typer.Option(help="Checkpoint of the forks.", show_default="a quarter of the run"),
    ] = None,
    forks: Annotated[int, typer.Option(min=1, max=64, help="How many forks.")] = 1,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Use runs with other orders as counterfactuals.

    A row that one run has read and another has not is its own counterfactual. Effects by this
    estimator, by difference-in-differences, and by both together: crossover.parquet, and their
    means with standard errors side by side: crossover_means.parquet.
    """
    from pythia_profile.pipeline.other_orders import ForkPlan, crossover_of
    from pythia_profile.text import text_table

    if others and (size is not None or fork_at is not None or forks != 1):
        raise typer.BadParameter("--size, --fork-at and --forks are for forks; got other studies")
    plan = ForkPlan(size=size, at=fork_at, forks=forks)
    found = crossover_of(study, others or (), plan, workers=workers)
    lines = found.means.to_dicts()
    if as_json:
        print_json(lines)
        return
    shown = [line for line in lines if line["cohort"] is None]
    columns = ["size", "outcome", "kind", "estimator", "att", "se", "lower", "upper"]
    typer.echo(text_table(shown, [*columns, "did_se", "ratio"]))
    typer.echo(str(found))


@verb(STUDY, "insertions my-mini-study --size xs --windows 2")
def insertions(
    study: StudyFolder = HERE,
    size: Annotated[
        str | None, typer.Option(help="Size that is trained again.", show_default="its first")
    ] = None,
    windows: Annotated[
        int, typer.Option(min=1, max=8, help="Parts of the run to plant in, each by itself.")
    ] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of the rows that texts are planted in.")] = 123,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Plant texts at random; audit the estimator by it.

    Trains a size of the mini suite again with spare rows planted 1, 2 and 4 times in random rows,
    and some with masked labels. Effects by the study's estimator beside those of the experiment,
    for which the run without them is the control: insertions.parquet; what went where:
    inserted/*/inserted.parquet.
    """
    from pythia_profile.pipeline.planted_texts import insertions_of
    from pythia_profile.text import text_table

    found = insertions_of(study, size=size, windows=windows, seed=seed, workers=workers)
    lines = found.table.to_dicts()
    if as_json:
        print_json(lines)
        return
    columns = ["size", "outcome", "arm", "window", "kind", "att", "se", "experiment"]
    typer.echo(text_table(lines, [*columns, "experiment_se", "difference", "difference_se"]))
    typer.echo(str(found))


@verb(STUDY, "across my-study", "across my-study seed-1-study seed-2-study")
def across(
    study: StudyFolder = HERE,
    others: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Folders of studies of the same suite's other training seeds.",
            show_default="none: bands over the sizes of this study alone",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Put sizes, or training seeds, together.

    Bands that hold for all sizes at once; and means over training seeds, with the variance between
    runs in their intervals. Writes across.parquet.
    """
    from pythia_profile.pipeline.other_seeds import across_of
    from pythia_profile.text import text_table

    lines = across_of(study, others or ()).to_dicts()
    if as_json:
        print_json(lines)
        return
    shown = [line for line in lines if line["cohort"] is None]
    columns = ["size", "seed", "outcome", "over", "runs", "kind", "event_time"]
    typer.echo(text_table(shown, [*columns, "att", "se", "lower", "upper"]))


@verb(FACTS, "convert global_step1000 my-run --config EleutherAI-pythia-70m")
def convert(
    folder: Annotated[Path, typer.Argument(help="A GPT-NeoX checkpoint, global_step….")],
    run: Annotated[Path, typer.Argument(help="Folder of the run to write a step of.")],
    config: Annotated[
        Path, typer.Option(help="The model's config.json in Hugging Face form, or its folder.")
    ],
    as_json: AsJson = False,
) -> None:
    """Convert a GPT-NeoX checkpoint to be trained on.

    Weights and optimizer state become a step of a run, which `training.loop.load_state` resumes or
    forks: the start of a true counterfactual of a published model. Files are read without running
    code in them.
    """
    from pythia_profile.training.neox_state import convert_neox

    step = convert_neox(folder, config, run)
    where = run / f"step{step}"
    if as_json:
        print_json({"step": step, "folder": str(where)})
    else:
        typer.echo(f"step {step} with its optimizer state: {where}")
