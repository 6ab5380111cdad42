"""The scripts with which a study runs on a cluster."""

from collections.abc import Sequence
from pathlib import Path

from pythia_profile.errors import StudyError
from pythia_profile.execute.slurm import TASK, SlurmJobs, array_script, single_script
from pythia_profile.store import write_text
from pythia_profile.study import open_study

__all__ = ["write_scripts"]


def write_scripts(
    folder: Path, jobs: SlurmJobs, tasks: int, program: Sequence[str]
) -> tuple[Path, Path]:
    """Write the array job that scores a study, and the job after it that runs what is left.

    The rows are drawn before: tasks that drew them at the same time would all do the same.

    Parameters
    ----------
    tasks : parts into which the checkpoints are divided.
    program : words that start the command line on a node.

    Raises
    ------
    StudyError
        The folder holds no study, or no rows yet.
    """
    open_study(folder)
    if not (folder / "rows.parquet").exists():
        raise StudyError(
            f"no rows.parquet in '{folder}'; run `pythia-profile sample {folder}` first, where "
            "there is a network"
        )
    study = str(folder.resolve())
    score, finish = jobs.folder / "score.sbatch", jobs.folder / "finish.sbatch"
    shard = [*program, "score", study, "--shard", f"{TASK}/{tasks}"]
    write_text(array_script("pythia-score", shard, tasks, jobs), score)
    after = [*program, "run", study]
    write_text(single_script("pythia-finish", after, jobs.replace(gpus=0)), finish)
    return score, finish
