"""Verbs that begin a study, run it, and describe it: `demo`, `init`, `run`, `status`, `plan`."""

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pythia_profile.cli.app import START, STUDY, verb
from pythia_profile.cli.options import AsJson, StudyFolder, Workers, print_json, steps_of
from pythia_profile.text import steps_text, text_table

if TYPE_CHECKING:
    from pythia_profile.pipeline.planning import Plan
    from pythia_profile.pipeline.stages import StageState
    from pythia_profile.suites.model import Suite


@verb(START, "demo", "demo --quick --out quick --seed 1")
def demo(
    out: Annotated[Path, typer.Option(help="Folder of the study.")] = Path("pythia-profile-demo"),
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Three models and three retraining runs instead of four and five."
        ),
    ] = False,
    seed: Annotated[
        int, typer.Option(help="Seed of corpus, weights, sample and bootstrap.", min=0)
    ] = 0,
    workers: Workers = None,
) -> None:
    """Profile four tiny models, trained on the spot.

    Trains the mini suite, profiles it, and compares the profile with counterfactual retraining,
    without network or GPU. The same command resumes an interrupted run and reuses a finished one.
    """
    from pythia_profile.pipeline.running import run_all
    from pythia_profile.study import create_study, demo_study

    create_study(out, demo_study(quick=quick, seed=seed), replace=True)
    run_all(out, workers, typer.echo)
    _show_result(out)


def _show_result(study: Path) -> None:
    """Print the three means of every size, and where the report is."""
    from pythia_profile.pipeline.inputs import read_tables
    from pythia_profile.report.words import summary
    from pythia_profile.study import open_study

    settings = open_study(study)
    found = summary(read_tables(study, settings), settings.outcomes)
    if len(found):
        typer.echo(f"\n{text_table(found.to_dicts(), found.columns)}")
    typer.echo(f"\n{(study / 'report.html').resolve().as_uri()}")


@verb(
    START,
    "init my-study --suite mini --sizes xs,s --set draws=500",
    "init my-study --models base-model fine-tuned --read train.jsonl --held-out other.jsonl",
)
def init(
    study: StudyFolder,
    suite: Annotated[
        str, typer.Option(help="Name of a suite, or a folder with suite.toml.", show_default=False)
    ] = "",
    sizes: Annotated[
        str, typer.Option(help="Sizes, separated by commas.", show_default="all of the suite")
    ] = "",
    checkpoints: Annotated[
        str,
        typer.Option(
            help="Steps to score: 0,1000 or first:last:by.",
            show_default="all that the suite proposes",
        ),
    ] = "",
    seed: Annotated[int, typer.Option(help="Seed of sample and bootstrap.", min=0)] = 0,
    training_seed: Annotated[int, typer.Option(help="Which training run of the suite.", min=0)] = 0,
    models: Annotated[
        tuple[Path, Path] | None,
        typer.Option(help="Instead of a suite: folders of a model before and after a run."),
    ] = None,
    read: Annotated[
        Path | None, typer.Option(help="With --models: .jsonl of text that the run read.")
    ] = None,
    held_out: Annotated[
        Path | None, typer.Option(help="With --models: .jsonl of text that it did not read.")
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(help="With --models: tokenizer.json.", show_default="that of the models"),
    ] = None,
    row_tokens: Annotated[
        int, typer.Option(help="With --models: tokens of a row.", min=2, max=65_536)
    ] = 129,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any other setting; repeatable."),
    ] = None,
) -> None:
    """Write study.toml, the commented settings of a new study."""
    if (models is None) == (not suite):
        raise typer.BadParameter("give one of --suite and --models")
    others = {"sample.seed": seed, "estimate.seed": seed, **_parsed(settings or [])}
    if models is not None:
        if read is None or held_out is None:
            raise typer.BadParameter("--models needs --read and --held-out")
        from pythia_profile.pipeline.two_checkpoints import two_checkpoints

        two_checkpoints(
            study,
            *models,
            read=read,
            held_out=held_out,
            tokenizer=tokenizer,
            row_tokens=row_tokens,
            settings=others,
        )
        typer.echo(f"{study / 'study.toml'}: {models[0]} before, {models[1]} after")
    else:
        named = {"training_seed": training_seed, **others}
        wanted = _of_suite(study, suite, sizes, checkpoints, named)
        typer.echo(f"{study / 'study.toml'}: suite {suite}, sizes {', '.join(wanted)}")
    typer.echo(f"next: pythia-profile run {shlex.quote(str(study))}")


def _of_suite(
    study: Path, suite: str, sizes: str, checkpoints: str, settings: dict[str, object]
) -> tuple[str, ...]:
    """Write the settings of a study of a suite; return its sizes."""
    from pythia_profile.study import create_study, new_study
    from pythia_profile.suites.registry import suite_facts_of

    if not (study / suite / "suite.toml").exists() and (Path(suite) / "suite.toml").is_file():
        suite = str(Path(suite).resolve())
    training_seed = settings["training_seed"]
    seed = training_seed if isinstance(training_seed, int) and training_seed else None
    facts = suite_facts_of(suite, seed, near=study)
    wanted = tuple(sizes.split(",")) if sizes else tuple(facts.sizes)
    for size in wanted:
        facts.size(size)
    run = training_seed or (facts.seed if facts.published else 0)
    chosen: dict[str, object] = {**facts.study_defaults}
    if checkpoints:
        chosen["checkpoints"] = _known_steps(facts, wanted, steps_of(checkpoints))
    create_study(study, new_study(suite, wanted, {**chosen, **settings, "training_seed": run}))
    return wanted


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
            values[name.strip()] = tomllib.loads(f"value = {value}")["value"]
        except (ValueError, RecursionError):
            values[name.strip()] = value
    return values


@verb(STUDY, "run my-study")
def run(
    study: StudyFolder,
    workers: Workers = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would run, and why.")
    ] = False,
) -> None:
    """Run every stage that is not up to date.

    These are the stages that have not been run, or whose settings or inputs have changed.
    """
    from pythia_profile.pipeline.running import run_all
    from pythia_profile.pipeline.stages import explain_stages

    if dry_run:
        states = explain_stages(study)
        typer.echo("\n".join(_state_lines(study, states)))
        if states["score"].to_do:
            typer.echo("")
            plan(study, workers=workers)
        return

    run_all(study, workers, typer.echo)
    _show_result(study)


@verb(STUDY, "status my-study --json")
def status(study: StudyFolder, as_json: AsJson = False) -> None:
    """Show which stages are out of date, and why.

    Lists faulty and missing checkpoints, too, and branches that have moved on the hub.
    """
    from pythia_profile.pipeline.stages import explain_stages, of_earlier_versions

    states = explain_stages(study)
    notes = _checkpoint_notes(study)
    if unread := of_earlier_versions(study):
        notes.append(f"of an earlier version, read by nothing, to be deleted: {', '.join(unread)}")
    if as_json:
        why = {name: found.why for name, found in states.items() if found.why}
        more = {"why": why, "notes": notes, "next": _next_command(study, states)}
        known = {name: found.state for name, found in states.items()}
        print_json({**known, **{name: value for name, value in more.items() if value}})
        return
    typer.echo("\n".join(_state_lines(study, states)))
    for note in notes:
        typer.echo(f"note: {note}")


def _state_lines(study: Path, states: Mapping[str, "StageState"]) -> list[str]:
    """Give the state of every stage, why it is in it, and the command that comes next."""
    lines = [
        f"{name:<15} {found.state}" + (f": {found.why}" if found.why else "")
        for name, found in states.items()
    ]
    command = _next_command(study, states)
    return lines + ([f"next: {command}"] if command else [])


def _next_command(study: Path, states: Mapping[str, "StageState"]) -> str:
    """Return the command that brings a study up to date; empty where it is."""
    if not any(found.to_do for found in states.values()):
        return ""
    return f"pythia-profile run {shlex.quote(str(study))}"


def _checkpoint_notes(study: Path) -> list[str]:
    """List faulty and missing checkpoints of a study, and branches that moved since it began."""
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
            notes += [
                f"moved on the hub, the pinned commit is used: {m}" for m in moved_since(study)
            ]
        except ProfileError as error:
            notes.append(f"whether branches have moved is unknown: {error}")
    return notes


@verb(STUDY, "plan my-study", "plan my-study --device h200 --bandwidth 20 --json")
def plan(
    study: StudyFolder,
    bandwidth: Annotated[float, typer.Option(help="MB per second from the hub.")] = 50.0,
    workers: Workers = None,
    device: Annotated[
        str,
        typer.Option(help="Device to plan for: h200, h100, a100, cpu.", show_default="this one"),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Show what scoring would take.

    Checkpoints and their state, GB to fetch, disk, device hours, requests, and wall time. Only
    listings that are not pinned yet are fetched, no weights. Hours follow from the speed of the
    checkpoints of a size that were scored on this machine, else from stated assumptions.
    """
    from pythia_profile.pipeline.planning import plan_study

    found = plan_study(study, workers=workers, bandwidth=bandwidth * 1e6, device=device)
    if as_json:
        print_json({**asdict(found), "states": found.states, "fetch_hours": found.fetch_hours})
    else:
        typer.echo("\n".join(_plan_lines(found)))


def _plan_lines(found: "Plan") -> list[str]:
    groups: dict[tuple[str, str, str], list[int]] = {}
    for unit in found.units:
        groups.setdefault((unit.size, unit.state, unit.why), []).append(unit.checkpoint)
    units = [
        {
            "size": size,
            "checkpoints": len(steps),
            "state": state,
            "steps": steps_text(sorted(steps)),
            "why": why,
        }
        for (size, state, why), steps in groups.items()
    ]
    sizes = [
        {
            "size": cost.size,
            "to do": cost.checkpoints,
            "GB to fetch": round(cost.fetch_bytes / 1e9, 3),
            "GB of memory": round(cost.memory_bytes / 1e9, 1),
            "hours": f"{cost.hours:.3g}",
            "TFLOP/s": f"{cost.rate / 1e12:.3g}",
            "rate": "measured here" if cost.share is None else f"assumed, {cost.share:.0%} of peak",
        }
        for cost in found.costs
    ]
    costs = {
        "rows": f"{found.rows:,} of {found.targets:,} scored tokens at each checkpoint",
        "to fetch": f"{found.fetch_bytes / 1e9:.3f} GB; {found.here_bytes / 1e9:.3f} GB available",
        "requests": f"{found.requests:,}",
        "fetching": f"{found.fetch_hours:.3g} h at {found.bandwidth / 1e6:g} MB/s",
        "operations": f"{found.operations:.3g} (2 · parameters · tokens)",
        "device": f"{found.device}, workers: {found.workers}",
        "device time": f"{found.device_hours:.3g} h",
        "wall time": f"{found.wall_hours:.3g} h",
        "memory": f"{found.memory_bytes / 1e9:.1f} GB a worker, for the largest model",
        "peak disk": f"{found.peak_disk_bytes / 1e9:.3f} GB",
        "output": f"{found.output_bytes / 1e9:.3f} GB",
    }
    return [
        text_table(units, ["size", "checkpoints", "state", "steps", "why"]),
        *(("", text_table(sizes, list(sizes[0]))) if sizes else ()),
        "",
        *(f"{name:<12} {value}" for name, value in costs.items()),
        *(f"{'assumed':<12} {line}" for line in found.assumptions),
        *(f"{'note':<12} {line}" for line in found.notes),
    ]
