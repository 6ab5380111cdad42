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
    numbers_of,
    print_json,
)

if TYPE_CHECKING:
    from pythia_profile.execute.executors import Cluster
    from pythia_profile.tables import Table


@verb(STAGES, "sample my-study")
def sample(study: StudyFolder = HERE, as_json: AsJson = False) -> None:
    """Draw the rows to score: treated and never-treated ones."""
    _run(study, "sample", as_json=as_json)


@verb(STAGES, "covariates my-study")
def covariates(study: StudyFolder = HERE, workers: Workers = None, as_json: AsJson = False) -> None:
    """Collect features and reference scores of the rows.

    Features of their tokens that need no model, and the outcomes of the reference model that
    study.toml names.
    """
    _run(study, "covariates", workers, as_json)


@verb(
    STAGES,
    "score my-study --workers 2",
    "score my-study --shard 1/4",
    "score my-study --cluster ray --address head:6379 --gpus 0.5",
    "score my-study --noise-floor",
)
def score(
    study: StudyFolder = HERE,
    workers: Workers = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Score quarantined checkpoints again, too.")
    ] = False,
    shard: Annotated[
        str,
        typer.Option(metavar="I/N", help="Only the I-th of N parts, for one of N machines."),
    ] = "",
    require_complete: Annotated[
        bool,
        typer.Option("--require-complete", help="Exit 3 where a checkpoint does not exist."),
    ] = False,
    cluster: Annotated[
        Literal["", "ray", "slurm"],
        typer.Option(
            metavar="<ray|slurm>",
            help="Score on other machines, which see the study's folder: nodes of a Ray cluster, "
            "or tasks of a SLURM array job (`sbatch` writes scripts that need no waiting).",
            show_default="none",
        ),
    ] = "",
    address: Annotated[
        str, typer.Option(help="HOST:PORT of the Ray cluster's head.", show_default="a local one")
    ] = "",
    gpus: Annotated[float, typer.Option(help="GPUs of one worker on a cluster.", min=0)] = 0,
    cpus: Annotated[int, typer.Option(help="Cores of one worker on a cluster.", min=1)] = 1,
    noise_floor: Annotated[
        bool,
        typer.Option(
            "--noise-floor",
            help="Instead, score some rows of one checkpoint under other numerics (precision, "
            "attention, batch size) and show how far the scores move.",
        ),
    ] = False,
    size: Annotated[
        str | None, typer.Option(help="Size for the noise floor.", show_default="the last")
    ] = None,
    checkpoint: Annotated[
        int | None, typer.Option(help="Checkpoint for the noise floor.", show_default="the last")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score the rows at every checkpoint; resumes.

    Checkpoints that failed are always tried again; quarantined ones only with --retry.
    """
    if noise_floor:
        _print_noise(study, size, checkpoint, as_json)
        return
    if size is not None or checkpoint is not None:
        raise typer.BadParameter("--size and --checkpoint go with --noise-floor")
    machines = _cluster(study, cluster, address, gpus, cpus, workers)
    _run(
        study,
        "score",
        workers,
        as_json,
        retry=retry,
        shard=_shard(shard),
        require_complete=require_complete,
        cluster=machines,
    )


def _cluster(
    study: Path, kind: str, address: str, gpus: float, cpus: int, workers: int | None
) -> "Cluster | None":
    """Describe the machines beyond this one that score; None for none."""
    from pythia_profile.execute.ray_cluster import RayCluster
    from pythia_profile.execute.slurm import SlurmJobs

    if kind == "ray":
        return RayCluster(address=address, folder=study.resolve(), gpus=gpus, cpus=cpus)
    if address:
        raise typer.BadParameter("--address goes with --cluster ray")
    if kind == "slurm":
        if gpus != int(gpus):
            raise typer.BadParameter(f"--gpus: got {gpus:g}, expected a whole number for SLURM")
        return SlurmJobs(folder=study.resolve(), limit=workers or 0, gpus=int(gpus), cpus=cpus)
    if gpus or cpus != 1:
        raise typer.BadParameter("--gpus and --cpus go with --cluster")
    return None


def _print_noise(study: Path, size: str | None, checkpoint: int | None, as_json: bool) -> None:
    from pythia_profile.pipeline.makers import noise_of
    from pythia_profile.text import text_table

    lines = noise_of(study, size=size, checkpoint=checkpoint).to_dicts()
    if as_json:
        print_json(lines)
        return
    columns = ["way", "outcome", "shift", "spread", "largest", "shift_in_se", "spread_in_se"]
    typer.echo(text_table(lines, columns))
    typer.echo(
        f"differences of {lines[0]['rows']} rows from the study's own numerics, in units of the "
        "outcome and of the smallest standard error of its effects"
    )


def _shard(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise typer.BadParameter(f"--shard: got '{text}', expected I/N, such as 1/4")
    return int(number), int(count)


@verb(STAGES, "att my-study")
def att(study: StudyFolder = HERE, as_json: AsJson = False) -> None:
    """Estimate ATT(g, c), with bands and placebo tests."""
    _run(study, "att", as_json=as_json)


@verb(STAGES, "precision my-study")
def precision(study: StudyFolder = HERE, as_json: AsJson = False) -> None:
    """Compare precision with and without covariates.

    How much smaller standard errors are at equal features of the rows, and at equal outcomes of a
    reference model.
    """
    _run(study, "precision", as_json=as_json)


@verb(STAGES, "profile my-study")
def profile(study: StudyFolder = HERE, as_json: AsJson = False) -> None:
    """Aggregate to memorization profiles; compare sizes.

    Instantaneous, persistent and residual memorization, and effects by event time.
    """
    _run(study, "profile", as_json=as_json)


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
    columns = ["size", "estimand", "stratum", "start", "end", "att", "se", "lower", "upper"]
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


@verb(STAGES, "counterfactual my-study")
def counterfactual(
    study: StudyFolder = HERE, workers: Workers = None, as_json: AsJson = False
) -> None:
    """Compare estimates with counterfactual retraining.

    Trains a size again without a cohort; the difference is the true effect (mini suite only).
    """
    _run(study, "counterfactual", workers, as_json)


@verb(STAGES, "remembered my-study")
def remembered(study: StudyFolder = HERE, as_json: AsJson = False) -> None:
    """Show the most and least remembered rows as text.

    Only for the mini suite, or where show_rows = "yes".
    """
    _run(study, "remembered", as_json=as_json)


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
        _run(study, "plot", as_json=as_json)
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


@verb(STAGES, "report my-study")
def report(study: StudyFolder = HERE, as_json: AsJson = False) -> None:
    """Write report.html, one page that works offline."""
    _run(study, "report", as_json=as_json)


def _run(
    study: Path, stage: str, workers: int | None = None, as_json: bool = False, **options: Any
) -> None:
    """Run a stage; print what it says, or that as JSON: the first line, then its notes."""
    from pythia_profile.pipeline.makers import StageOptions
    from pythia_profile.pipeline.running import run_stage

    message = run_stage(study, stage, StageOptions(workers=workers, **options))
    if not as_json:
        typer.echo(message)
        return
    first, *notes = (line.strip() for line in message.splitlines())
    print_json({"stage": stage, "message": first.removeprefix(f"{stage}: "), "notes": notes})
