"""Options and arguments that several verbs share, and how their words are read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pythia_profile.execute.executors import Cluster

__all__ = [
    "HERE",
    "AsJson",
    "StudyFolder",
    "Workers",
    "check_out",
    "cluster_of",
    "numbers_of",
    "parsed_settings",
    "print_json",
    "run_and_tell",
    "steps_of",
]

StudyFolder = Annotated[
    Path, typer.Argument(help="Folder of the study.", show_default="this folder")
]
HERE = Path()
"""Folder of the study where none is named."""
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Workers = Annotated[
    int | None,
    typer.Option(
        help="Processes at a time; no number depends on it.",
        show_default="all available cores",
        min=1,
    ),
]

_MOST_STEPS = 100_000


def print_json(content: Any) -> None:
    """Print plain values as JSON on stdout."""
    typer.echo(json.dumps(content, indent=2))


def run_and_tell(
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


def check_out(out: Path, *read: Path) -> None:
    """Refuse to write over a file of a study, or over what is read."""
    from pythia_profile.errors import StudyError
    from pythia_profile.pipeline.stages import refuse_own

    refuse_own(out)
    for source in read:
        place, home = out.resolve(), source.resolve()
        if place == home or (out.is_file() and place.is_relative_to(home)):
            raise StudyError(f"out: got '{out}', which is read here; write under another name")


def cluster_of(
    study: Path, kind: str, address: str, gpus: float, cpus: int, workers: int | None
) -> "Cluster | None":
    """Describe the machines beyond this one that work; None for none."""
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


def parsed_settings(pairs: list[str], option: str) -> dict[str, object]:
    """Read NAME=VALUE pairs as TOML; a value that is not TOML is a word."""
    import tomllib

    values: dict[str, object] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise typer.BadParameter(f"{option}: got '{pair}', expected NAME=VALUE")
        try:
            values[name.strip()] = tomllib.loads(f"value = {value}")["value"]
        except (ValueError, RecursionError):
            values[name.strip()] = value
    return values


def numbers_of(text: str, option: str, kind: Callable[[str], Any]) -> list[Any]:
    """Read numbers separated by commas."""
    try:
        return [kind(word) for word in text.split(",")]
    except ValueError:
        raise typer.BadParameter(
            f"{option}: got '{text}', expected numbers separated by commas"
        ) from None


def steps_of(text: str) -> list[int]:
    """Read steps: numbers and ranges first:last:by, separated by commas, both ends included.

    Examples
    --------
    >>> steps_of("0,1,1000:3000:1000")
    [0, 1, 1000, 2000, 3000]
    """
    steps: set[int] = set()
    for part in text.split(","):
        numbers = part.strip().split(":")
        if not all(number.strip().isdecimal() for number in numbers) or len(numbers) not in (1, 3):
            raise typer.BadParameter(f"steps: got '{part}', expected a number or first:last:by")
        first, last, by = [int(n) for n in numbers] if len(numbers) == 3 else [int(part)] * 2 + [1]
        if by < 1 or last < first or (last - first) // by > _MOST_STEPS:
            raise typer.BadParameter(f"steps: got '{part}', expected first:last:by, ascending")
        steps.update(range(first, last + 1, by))
    return sorted(steps)
