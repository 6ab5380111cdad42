"""One verb for each stage of a study; each leaves a table, figures or the report."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from pythia_profile.cli.app import STAGES, verb
from pythia_profile.cli.options import (
    HERE,
    AsJson,
    StudyFolder,
    Workers,
    cluster_of,
    numbers_of,
    print_json,
    run_and_tell,
)

if TYPE_CHECKING:
    from pythia_profile.tables import Table


@verb(STAGES, "sample my-study")
def sample(study: StudyFolder = HERE, as_json: AsJson = False) -> None:
    """Draw the rows to score: treated and never-treated ones."""
    run_and_tell(study, "sample", as_json=as_json)


@verb(STAGES, "covariates my-study")
def covariates(study: StudyFolder = HERE, workers: Workers = None, as_json: AsJson = False) -> None:
    """Collect features and reference scores of the rows.

    Features of their tokens that need no model, and the outcomes of the reference model that
    study.toml names.
    """
    run_and_tell(study, "covariates", workers, as_json)


@verb(STAGES, "att my-study")
def att(study: StudyFolder = HERE, as_json: AsJson = False) -> None:
    """Estimate ATT(g, c), with bands and placebo tests."""
    run_and_tell(study, "att", as_json=as_json)


@verb(STAGES, "precision my-study")
def precision(study: StudyFolder = HERE, as_json: AsJson = False) -> None:
    """Compare precision with and without covariates.

    How much smaller standard errors are at equal features of the rows, and at equal outcomes of a
    reference model.
    """
    run_and_tell(study, "precision", as_json=as_json)


@verb(STAGES, "profile my-study")
def profile(study: StudyFolder = HERE, as_json: AsJson = False) -> None:
    """Aggregate to memorization profiles; compare sizes.

    Instantaneous, persistent and residual memorization, and effects by event time.
    """
    run_and_tell(study, "profile", as_json=as_json)


@verb(
    STAGES,
    "estimands my-study",
    "estimands my-study --event-times 1000,5000 --persistence 1000:20000",
    "estimands my-study --by earlier_exposure --cut 2",
    "estimands my-study --slope features.bigram --tokens position",
)
def estimands(
    study: StudyFolder = HERE,
    event_times: Annotated[
        str,
        typer.Option(
            help="Event times, in optimizer steps since a row was read.",
            show_default="1/16 to 1/2 of the run",
        ),
    ] = "",
    over: Annotated[
        str,
        typer.Option(
            "--persistence",
            metavar="START:END",
            help="Event times to average over, each step counting alike.",
            show_default="1/16 to 1/2 of the run",
        ),
    ] = "",
    by: Annotated[str, typer.Option(help="Column of the rows whose values are strata.")] = "",
    cut: Annotated[
        int, typer.Option(min=0, help="Of a column of numbers: groups of about equal size.")
    ] = 0,
    slope: Annotated[
        str, typer.Option(help="Columns of numbers along which effects change.", metavar="COLUMNS")
    ] = "",
    tokens: Annotated[
        str,
        typer.Option(help="Classes of tokens: position or frequency (needs score.token_table)."),
    ] = "",
    classes: Annotated[int, typer.Option(min=2, max=1000, help="How many classes of tokens.")] = 8,
    draws: Annotated[
        int, typer.Option(min=0, max=100_000, help="Of the exact tests; 0 for none.")
    ] = 999,
    as_json: AsJson = False,
) -> None:
    """Estimate effects off the grid of checkpoints.

    Effects at exact event times and their time-weighted mean; the efficient estimator under a
    random training order, with exact tests; effects by stratum, along a column and of classes of
    tokens. Writes estimands.parquet.
    """
    import polars as pl

    from pythia_profile.pipeline.makers import StageOptions
    from pythia_profile.pipeline.running import run_stage
    from pythia_profile.profiles.estimands import EstimandPlan
    from pythia_profile.text import text_table

    start, end = _ends(over) if over else (0, 0)
    plan = EstimandPlan(
        event_times=tuple(numbers_of(event_times, "--event-times", int)) if event_times else (),
        start=start,
        horizon=end,
        column=by,
        cut=cut,
        slopes=tuple(slope.split(",")) if slope else (),
        tokens=_chosen_tokens(tokens),
        classes=classes,
        reassignments=draws,
    )
    message = run_stage(study, "estimands", StageOptions(estimands=plan))
    if "left out" in message:
        typer.echo(message)
        return
    lines = pl.read_parquet(study / "estimands.parquet").to_dicts()
    if as_json:
        print_json(lines)
        return
    columns = ["size", "estimand", "stratum", "start", "end", "cohorts", "att", "se"]
    columns += ["lower", "upper"]
    typer.echo(text_table(lines, [*columns, "p_value"]))


def _chosen_tokens(text: str) -> Literal["", "position", "frequency"]:
    if text not in ("", "position", "frequency"):
        raise typer.BadParameter(f"--tokens: got '{text}', expected position or frequency")
    return cast(Literal["", "position", "frequency"], text)


def _ends(text: str) -> tuple[int, int]:
    start, _, end = text.partition(":")
    if not (start.isdecimal() and end.isdecimal() and int(start) < int(end) < 2**63):
        raise typer.BadParameter(f"--persistence: got '{text}', expected START:END, ascending")
    return int(start), int(end)


@verb(STAGES, "check my-study --json")
def check(
    study: StudyFolder = HERE,
    as_json: Annotated[bool, typer.Option("--json", help="Print the tables as JSON.")] = False,
) -> None:
    """Diagnose how robust the effects are.

    Sensitivity to violations of parallel trends (relative magnitudes and smoothness) with
    breakdown values; leaving out each checkpoint; baseline balance of treated and control rows;
    late minus early cohorts, and size minus size; alternative estimators. Writes a table of each.
    """
    from pythia_profile.pipeline.running import run_stage

    message = run_stage(study, "check")
    if not as_json:
        typer.echo(message)
        return
    from pythia_profile.tables import CHECKS

    print_json(_plain_tables(study, CHECKS))


@verb(STAGES, "findings my-study", "findings my-study --json")
def findings(study: StudyFolder = HERE, as_json: AsJson = False) -> None:
    """Say what the profiles show, with errors.

    Effects against the learning rate; large sizes from small ones, on rows of their own; training
    seeds; earlier and second exposures; laws of decay; memorized bits. Writes a table of each, and
    prints the sentences that these amount to.
    """
    from pythia_profile.pipeline.running import run_stage

    message = run_stage(study, "findings")
    if not as_json:
        typer.echo(message)
        return
    from pythia_profile.tables import FOUND

    print_json({"sentences": message.split("\n  ")[1:], **_plain_tables(study, FOUND)})


def _plain_tables(study: Path, tables: "Sequence[Table]") -> dict[str, list[dict[str, Any]]]:
    """Read tables of a study; numbers that are not finite are null, as JSON has none."""
    import polars as pl

    floats = pl.selectors.float()
    return {
        table.name: pl.read_parquet(study / f"{table.name}.parquet")
        .with_columns(pl.when(floats.is_finite()).then(floats))
        .to_dicts()
        for table in tables
        if (study / f"{table.name}.parquet").exists()  # else the stage was left out
    }


@verb(STAGES, "counterfactual my-study", "counterfactual my-study --cluster slurm --workers 5")
def counterfactual(
    study: StudyFolder = HERE,
    workers: Workers = None,
    cluster: Annotated[
        Literal["", "ray", "slurm"],
        typer.Option(
            metavar="<ray|slurm>",
            help="Retrain on other machines, which see the study and the cache, a cohort each.",
            show_default="none",
        ),
    ] = "",
    address: Annotated[
        str, typer.Option(help="HOST:PORT of the Ray cluster's head.", show_default="a local one")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Compare estimates with counterfactual retraining.

    Trains a size again without a cohort; the difference is the true effect (mini suite only).
    """
    machines = cluster_of(study, cluster, address, 0, 1, workers)
    run_and_tell(study, "counterfactual", workers, as_json, cluster=machines)


@verb(STAGES, "remembered my-study")
def remembered(study: StudyFolder = HERE, as_json: AsJson = False) -> None:
    """Show the most and least remembered rows as text.

    Only for the mini suite, or where show_rows = "yes".
    """
    run_and_tell(study, "remembered", as_json=as_json)


@verb(
    STAGES,
    "plot my-study",
    "plot my-study --which heatmap,difference --size 70m,12b --format pdf",
)
def plot(
    study: StudyFolder = HERE,
    which: Annotated[
        str,
        typer.Option(
            help="Only these: heatmap, difference, event_time, event_time_all, instantaneous, "
            "residual, agreement, prediction, seeds, decay, counterfactual.",
            show_default="all that the tables allow",
        ),
    ] = "",
    size: Annotated[
        str, typer.Option(help="Only these sizes, in this order.", show_default="all")
    ] = "",
    formats: Annotated[
        str, typer.Option("--format", help="svg, png, pdf.", show_default="svg,png")
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the files.",
            show_default="figures of the study; of a choice, its folder plots",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Draw the figures (SVG and PNG), or a choice of them.

    Of size against size, the difference is that of the last minus the first named. A choice leaves
    the study's own figures, which its report shows, as they are.
    """
    if not (which or size or formats or out):
        run_and_tell(study, "plot", as_json=as_json)
        return
    from pythia_profile.pipeline.makers import draw_some

    files = draw_some(
        study,
        out or study / "plots",
        which=_words(which),
        sizes=_words(size),
        formats=_words(formats) or ("svg", "png"),
    )
    if as_json:
        print_json([str(path) for path in files])
    else:
        typer.echo("\n".join(map(str, files)))


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


@verb(STAGES, "report my-study", "report my-study --out page.html")
def report(
    study: StudyFolder = HERE,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File of the page.",
            show_default="report.html of the study, or here if that is read-only",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write report.html, one page that works offline."""
    run_and_tell(study, "report", as_json=as_json, out=out)
