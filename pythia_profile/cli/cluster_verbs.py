"""Verbs for clusters: `sbatch` writes the scripts of a study."""

import shlex
import sys
from typing import Annotated

import typer

from pythia_profile.cli.app import FACTS, verb
from pythia_profile.cli.options import HERE, AsJson, StudyFolder, print_json


@verb(
    FACTS,
    "sbatch my-study --tasks 8 --gpus 1 --time 12:00:00 --memory 32G",
    "sbatch my-study --partition gpu --setup 'module load cuda' --submit",
)
def sbatch(
    study: StudyFolder = HERE,
    tasks: Annotated[
        int, typer.Option(help="Parts into which the checkpoints are divided.", min=1, max=10_000)
    ] = 4,
    gpus: Annotated[int, typer.Option(help="GPUs of a task.", min=0)] = 0,
    cpus: Annotated[int, typer.Option(help="Cores of a task.", min=1)] = 1,
    memory: Annotated[str, typer.Option(help="Memory of a task, such as 32G.")] = "",
    time: Annotated[str, typer.Option(help="Time limit of a task, such as 12:00:00.")] = "",
    array_limit: Annotated[
        int, typer.Option(help="Tasks at a time.", min=0, show_default="all")
    ] = 0,
    partition: Annotated[str, typer.Option(help="Partition.", show_default="SLURM's own")] = "",
    account: Annotated[str, typer.Option(help="Account that pays.")] = "",
    setup: Annotated[
        list[str] | None,
        typer.Option(help="A shell line before the command; repeatable."),
    ] = None,
    submit: Annotated[bool, typer.Option("--submit", help="Submit them, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the scripts of a SLURM array job.

    The array scores, a part of the checkpoints each; a task that nears its time limit stops where
    it is and goes on in its next slot. A last job makes everything up to the report.
    """
    from pythia_profile.execute import slurm
    from pythia_profile.pipeline.cluster import write_scripts

    jobs = slurm.SlurmJobs(
        folder=study.resolve() / "slurm",
        time=time,
        gpus=gpus,
        cpus=cpus,
        memory=memory,
        partition=partition,
        account=account,
        limit=array_limit,
        setup=tuple(setup or ()),
    )
    python = [sys.executable, "-m", "pythia_profile"]
    score, finish = write_scripts(study, jobs, tasks, python)
    if submit:
        array = slurm.submit(score)
        last = slurm.submit(finish, after=array)
        if as_json:
            print_json({"scripts": [str(score), str(finish)], "jobs": [array, last]})
        else:
            typer.echo(f"submitted: array job {array} of {tasks} tasks, then job {last}")
        return
    first, second = shlex.quote(str(score)), shlex.quote(str(finish))
    following = f"sbatch --dependency=afterok:$(sbatch --parsable {first}) {second}"
    if as_json:
        print_json({"scripts": [str(score), str(finish)], "next": following})
    else:
        typer.echo(f"{score}\n{finish}\nnext: {following}")
