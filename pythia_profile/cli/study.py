"""Verbs of a study: one for each stage, and those that begin, run and describe all of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pythia_profile.cli.app import app

if TYPE_CHECKING:
    from pythia_profile.suites.model import Suite

StudyFolder = Annotated[Path, typer.Argument(help="Folder of the study.", show_default=False)]
Workers = Annotated[
    int | None,
    typer.Option(
        help="Processes at a time; no number depends on it.",
        show_default="the cores at hand",
        min=1,
    ),
]


@app.command(
    epilog="Example: pythia-profile init my-study --suite mini --sizes xs,s --set draws=500"
)
def init(
    study: StudyFolder,
    suite: Annotated[str, typer.Option(help="Name of a suite, or a folder with suite.toml.")],
    sizes: Annotated[
        str, typer.Option(help="Sizes, separated by commas.", show_default="all of the suite")
    ] = "",
    checkpoints: Annotated[
        str,
        typer.Option(
            help="Steps to score: 0,1000 or first:last:by.", show_default="what the suite proposes"
        ),
    ] = "",
    seed: Annotated[int, typer.Option(help="Seed of sample and bootstrap.", min=0)] = 0,
    training_seed: Annotated[int, typer.Option(help="Which training run of the suite.", min=0)] = 0,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="Any other setting; may stand repeatedly."
        ),
    ] = None,
) -> None:
    """Begin a study: write study.toml, which holds every setting."""
    from pythia_profile.cli.steps import parsed_steps
    from pythia_profile.study import create_study, new_study
    from pythia_profile.suites.registry import suite_facts_of

    if not (study / suite / "suite.toml").exists() and (Path(suite) / "suite.toml").is_file():
        suite = str(Path(suite).resolve())
    facts = suite_facts_of(suite, training_seed or None, near=study)
    wanted = tuple(sizes.split(",")) if sizes else tuple(facts.sizes)
    for size in wanted:
        facts.size(size)
    chosen = {**facts.study_defaults, "seed": seed, "training_seed": training_seed}
    if checkpoints:
        chosen["checkpoints"] = _known_steps(facts, wanted, parsed_steps(checkpoints))
    begun = new_study(suite, wanted, **{**chosen, **_parsed(settings or [])})
    create_study(study, begun)
    typer.echo(f"{study / 'study.toml'}: suite {suite}, sizes {', '.join(wanted)}")


def _known_steps(suite: "Suite", sizes: tuple[str, ...], steps: list[int]) -> tuple[int, ...]:
    for size in sizes:
        suite.check_steps(size, steps)
    return tuple(steps)


def _parsed(settings: list[str]) -> dict[str, object]:
    """Read NAME=VALUE pairs as TOML; a value that is not TOML is a word."""
    import tomllib

    values: dict[str, object] = {}
    for pair in settings:
        name, equals, value = pair.partition("=")
        if not equals:
            raise typer.BadParameter(f"--set: got '{pair}', expected NAME=VALUE")
        try:
            values |= tomllib.loads(f"{name} = {value}")
        except tomllib.TOMLDecodeError:
            values[name] = value
    return values


@app.command(epilog="Example: pythia-profile sample my-study")
def sample(study: StudyFolder) -> None:
    """Draw the rows to follow: treated rows of every cohort, and never-treated rows."""
    _run(study, "sample")


@app.command(
    epilog="Examples: pythia-profile score my-study --workers 2 · pythia-profile score my-study "
    "--shard 1/4 · pythia-profile score my-study --noise-floor"
)
def score(
    study: StudyFolder,
    workers: Workers = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Score quarantined checkpoints again.")
    ] = False,
    shard: Annotated[
        str,
        typer.Option(metavar="I/N", help="Only the I-th of N parts, for one of N machines."),
    ] = "",
    noise_floor: Annotated[
        bool,
        typer.Option(
            "--noise-floor",
            help="Instead, score some rows at one checkpoint in several ways and print how far "
            "numbers move.",
        ),
    ] = False,
    size: Annotated[
        str | None, typer.Option(help="Size for the noise floor.", show_default="the last")
    ] = None,
    checkpoint: Annotated[
        int | None, typer.Option(help="Checkpoint for the noise floor.", show_default="the last")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the noise floor as JSON.")] = False,
) -> None:
    """Score the sampled rows at every checkpoint; goes on where it was interrupted.

    What failed for now is tried again in any case.
    """
    from pythia_profile.pipeline.stages import How, run_stage

    if noise_floor:
        _print_noise(study, size, checkpoint, as_json)
        return
    if size is not None or checkpoint is not None or as_json:
        raise typer.BadParameter("--size, --checkpoint and --json go with --noise-floor")
    how = How(workers=workers, retry=retry, shard=_shard(shard))
    typer.echo(run_stage(study, "score", how))


def _print_noise(study: Path, size: str | None, checkpoint: int | None, as_json: bool) -> None:
    import json

    from pythia_profile.cli.table import as_table
    from pythia_profile.pipeline.stages import noise_of

    lines = noise_of(study, size=size, checkpoint=checkpoint).to_dicts()
    if as_json:
        typer.echo(json.dumps(lines, indent=2))
        return
    columns = ["way", "outcome", "shift", "spread", "largest", "shift_in_se", "spread_in_se"]
    typer.echo(as_table(lines, columns))
    typer.echo(
        f"differences of {lines[0]['rows']} rows to the study's own way, in units of the outcome "
        "and in smallest standard errors of its effects"
    )


def _shard(said: str) -> tuple[int, int] | None:
    if not said:
        return None
    number, _, count = said.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise typer.BadParameter(f"--shard: got '{said}', expected I/N, as 1/4")
    return int(number), int(count)


@app.command(epilog="Example: pythia-profile att my-study")
def att(study: StudyFolder) -> None:
    """Estimate ATT(g, c) with simultaneous bands, and test that it is 0 before treatment."""
    _run(study, "att")


@app.command(epilog="Example: pythia-profile profile my-study")
def profile(study: StudyFolder) -> None:
    """Aggregate to instantaneous, persistent and residual memorization; compare sizes."""
    _run(study, "profile")


@app.command(epilog="Example: pythia-profile counterfactual my-study")
def counterfactual(study: StudyFolder, workers: Workers = None) -> None:
    """Retrain without a cohort, for the true effect; check the estimate (mini suite only)."""
    _run(study, "counterfactual", workers)


@app.command(epilog="Example: pythia-profile plot my-study")
def plot(study: StudyFolder) -> None:
    """Draw the figures, as SVG and PNG."""
    _run(study, "plot")


@app.command(epilog="Example: pythia-profile report my-study")
def report(study: StudyFolder) -> None:
    """Write report.html: one page with everything, readable offline."""
    _run(study, "report")


@app.command(epilog="Example: pythia-profile run my-study")
def run(
    study: StudyFolder,
    workers: Workers = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what scoring would take, as `plan`.")
    ] = False,
) -> None:
    """Run every stage whose settings or inputs have changed, or that has not been run."""
    if dry_run:
        from pythia_profile.cli.plan import plan

        plan(study, workers=workers)
        return
    from pythia_profile.pipeline.stages import run_all

    run_all(study, workers, typer.echo)


@app.command(epilog="Example: pythia-profile status my-study --json")
def status(
    study: StudyFolder,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say which stages are up to date, and which have to be run."""
    import json

    from pythia_profile.pipeline.stages import stage_states

    states = stage_states(study)
    notes = _of_checkpoints(study)
    if as_json:
        typer.echo(json.dumps({**states, **({"notes": notes} if notes else {})}, indent=2))
    else:
        for name, state in states.items():
            typer.echo(f"{name:<15} {state}")
        for note in notes:
            typer.echo(f"note: {note}")


def _of_checkpoints(study: Path) -> list[str]:
    """Say what is known of a study's checkpoints: faulty and missing ones, branches that moved."""
    from pythia_profile.study import read_lock

    lock = read_lock(study)
    audit = lock.get("audit", {})
    notes = [
        f"{line['size']} step {line['step']} is {line['verdict']}: {'; '.join(line['reasons'])}"
        f" ({audit.get('choice', 'refuse')})"
        for line in audit.get("faulty", []) + audit.get("missing", [])
    ]
    if lock.get("checkpoints"):
        from pythia_profile.errors import ProfileError
        from pythia_profile.pipeline.pinned import moved_since

        try:
            notes += [f"moved on the hub, the pinned one is used: {m}" for m in moved_since(study)]
        except ProfileError as error:
            notes.append(f"whether branches have moved is not known: {error}")
    return notes


def _run(study: Path, stage: str, workers: int | None = None) -> None:
    from pythia_profile.pipeline.stages import How, run_stage

    typer.echo(run_stage(study, stage, How(workers=workers)))
