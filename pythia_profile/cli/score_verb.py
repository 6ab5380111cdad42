"""The verb `score`, on this machine or on a cluster, and its noise floor."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from pythia_profile.cli.app import STAGES, verb
from pythia_profile.cli.options import (
    HERE,
    AsJson,
    StudyFolder,
    Workers,
    cluster_of,
    print_json,
    run_and_tell,
)


@verb(
    STAGES,
    "score my-study --workers 2",
    "score my-study --shard 1/4",
    "score my-study --cluster ray --address head:6379 --gpus 0.5",
    "score my-study --until 0.01 --of persistent",
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
    until: Annotated[
        float | None,
        typer.Option(
            metavar="WIDTH",
            help="Score rows in random order and stop when half of the interval of --of is at most "
            "this wide, for every size.",
            show_default="all rows",
        ),
    ] = None,
    of: Annotated[
        Literal["instantaneous", "persistent", "residual"],
        typer.Option(help="Mean over cohorts that --until is about."),
    ] = "instantaneous",
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
    machines = cluster_of(study, cluster, address, gpus, cpus, workers)
    if until is not None:
        from pythia_profile.pipeline.until import score_until
        from pythia_profile.scoring.settings import RunOptions

        options = RunOptions(workers=workers, retry=retry, shard=_shard(shard), cluster=machines)
        found = score_until(study, until, of=of, options=options)
        if as_json:
            print_json({**asdict(found), "reached": found.reached})
        else:
            typer.echo(str(found))
        return
    run_and_tell(
        study,
        "score",
        workers,
        as_json,
        retry=retry,
        shard=_shard(shard),
        require_complete=require_complete,
        cluster=machines,
    )


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
