"""Verbs that begin a study, run it, and describe it: `demo`, `init`, `run`, `status`, `plan`."""

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pythia_profile.cli.app import START, STUDY, verb
from pythia_profile.cli.options import (
    HERE,
    AsJson,
    StudyFolder,
    Workers,
    parsed_settings,
    print_json,
    steps_of,
)
from pythia_profile.text import duration, steps_text, text_table

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
    as_json: AsJson = False,
) -> None:
    """Profile four tiny models, trained on the spot.

    Trains the mini suite, profiles it, and compares the profile with counterfactual retraining,
    without network or GPU. The same command resumes an interrupted run and reuses a finished one.
    """
    from pythia_profile.study import create_study, demo_study

    create_study(out, demo_study(quick=quick, seed=seed), replace=True)
    _run_all(out, workers, as_json)


def _run_all(study: Path, workers: int | None, as_json: bool) -> None:
    """Run a study; end with the means of every size, and where the report is."""
    from pythia_profile.pipeline.results import study_summary
    from pythia_profile.pipeline.running import run_all

    said: list[str] = []
    run_all(study, workers, said.append if as_json else _show_stage)
    found = study_summary(study)
    page = (study / "report.html").resolve().as_uri()
    if as_json:
        stages = dict(line.split(": ", 1) for line in said)
        print_json({"stages": stages, "summary": found.to_dicts(), "report": page})
        return
    if len(found):
        typer.echo(f"\n{text_table(found.to_dicts(), found.columns)}")
    typer.echo(f"\n{page}")


def _show_stage(message: str) -> None:
    """Print what a stage says; where the report is comes last, as a link."""
    if not message.startswith("report: ") or message == "report: up to date":
        typer.echo(message)


@verb(
    START,
    "init my-study --suite mini --sizes xs,s --set draws=500",
    "init my-study --models base-model fine-tuned --read train.jsonl --held-out other.jsonl",
)
def init(
    study: StudyFolder = HERE,
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
    as_json: AsJson = False,
) -> None:
    """Write study.toml, the commented settings of a new study."""
    if (models is None) == (not suite):
        raise typer.BadParameter("give one of --suite and --models")
    others = {
        "sample.seed": seed,
        "estimate.seed": seed,
        **parsed_settings(settings or [], "--set"),
    }
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
        what = f"{models[0]} before, {models[1]} after"
    else:
        named = {"training_seed": training_seed, **others}
        wanted = _of_suite(study, suite, sizes, checkpoints, named)
        what = f"suite {suite}, sizes {', '.join(wanted)}"
    following = f"pythia-profile run {shlex.quote(str(study))}"
    if as_json:
        print_json({"study": str(study / "study.toml"), "what": what, "next": following})
    else:
        typer.echo(f"{study / 'study.toml'}: {what}\nnext: {following}")


def _of_suite(
    study: Path, suite: str, sizes: str, checkpoints: str, settings: dict[str, object]
) -> tuple[str, ...]:
    """Write the settings of a study of a suite; return its sizes."""
    from pythia_profile.pipeline.fits import check_fit
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
    made = new_study(suite, wanted, {**chosen, **settings, "training_seed": run})
    check_fit(study, made, facts)
    create_study(study, made)
    return wanted


def _known_steps(suite: "Suite", sizes: tuple[str, ...], steps: list[int]) -> tuple[int, ...]:
    for size in sizes:
        suite.check_steps(size, steps)
    return tuple(steps)


@verb(STUDY, "run my-study")
def run(
    study: StudyFolder = HERE,
    workers: Workers = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would run, and why.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run every stage that is not up to date.

    These are the stages that have not been run, or whose settings or inputs have changed.
    """
    if dry_run and as_json:
        status(study, as_json=True)
        return
    if dry_run:
        from pythia_profile.pipeline.stages import explain_stages

        states = explain_stages(study)
        typer.echo("\n".join(_state_lines(study, states)))
        if states["score"].to_do:
            typer.echo("")
            plan(study, workers=workers)
        return

    _run_all(study, workers, as_json)


@verb(STUDY, "status my-study --json")
def status(study: StudyFolder = HERE, as_json: AsJson = False) -> None:
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
    """Count and list faulty and missing checkpoints, and branches that moved since it began."""
    from pythia_profile.checkpoints.verdicts import tally
    from pythia_profile.study import read_lock

    lock = read_lock(study)
    audit = lock.get("audit", {})
    bad = {name: audit.get(name, []) for name in ("faulty", "missing")}
    notes = []
    if any(bad.values()):
        count = tally(len(bad["faulty"]), len(bad["missing"]), audit.get("checkpoints"))
        notes.append(f"{count} (faulty = '{audit.get('choice', 'refuse')}')")
    alike: dict[tuple[str, str, str], list[int]] = {}
    for line in bad["faulty"] + bad["missing"]:
        key = line["size"], line["verdict"], "; ".join(line["reasons"])
        alike.setdefault(key, []).append(line["step"])
    notes += [
        f"{size} step {steps_text(steps)} is {verdict}: {why}"
        for (size, verdict, why), steps in alike.items()
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
    study: StudyFolder = HERE,
    bandwidth: Annotated[float, typer.Option(help="MB per second from the hub.")] = 50.0,
    workers: Workers = None,
    device: Annotated[
        str,
        typer.Option(help="Device to plan for: h200, h100, a100, cpu.", show_default="this one"),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Show what scoring would take.

    Checkpoints and their state, GB to fetch, disk, device hours, requests, and wall time; what
    features of the rows and a reference model take, and what they were found to be worth. Only
    listings that are not pinned yet are fetched, no weights. Hours follow from the speed of the
    checkpoints of a size that were scored on this machine, else from stated assumptions.
    """
    from pythia_profile.pipeline.planning import plan_study

    found = plan_study(study, workers=workers, bandwidth=bandwidth * 1e6, device=device)
    if as_json:
        print_json({**asdict(found), "states": found.states, "fetch_hours": found.fetch_hours})
    else:
        typer.echo("\n".join(_plan_lines(found)))


def _time_in_words(found: "Plan") -> str:
    """Say in one line how long it takes, what takes it, and whether that was measured."""
    states = found.states
    if not states.get("to do"):
        return "nothing is to do"
    fetching = found.fetch_hours > found.device_hours / max(1, found.workers)
    what = "fetching takes longest" if fetching else "computing takes longest"
    known = all(cost.share is None for cost in found.costs)
    basis = "at speeds measured here" if known else "at assumed speeds, see below"
    return (
        f"about {duration(3600 * found.wall_hours)} for {states['to do']:,} checkpoints on "
        f"{found.device}: {what}, {basis}"
    )


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
            "time": duration(3600 * cost.hours),
            "TFLOP/s": f"{cost.rate / 1e12:.3g}",
            "rate": "measured here" if cost.share is None else f"assumed, {cost.share:.0%} of peak",
        }
        for cost in found.costs
    ]
    costs = {
        "time": _time_in_words(found),
        "rows": f"{found.rows:,} of {found.targets:,} scored tokens at each checkpoint",
        "to fetch": f"{found.fetch_bytes / 1e9:.3f} GB; {found.here_bytes / 1e9:.3f} GB available",
        "requests": f"{found.requests:,}",
        "fetching": f"{duration(3600 * found.fetch_hours)} at {found.bandwidth / 1e6:g} MB/s",
        "operations": f"{found.operations:.3g} (2 · parameters · tokens)",
        "device": f"{found.device}, workers: {found.workers}",
        "device time": duration(3600 * found.device_hours),
        "wall time": duration(3600 * found.wall_hours),
        "memory": f"{found.memory_bytes / 1e9:.1f} GB a worker, for the largest model",
        "peak disk": f"{found.peak_disk_bytes / 1e9:.3f} GB",
        "output": f"{found.output_bytes / 1e9:.3f} GB",
    }
    return [
        text_table(units, ["size", "checkpoints", "state", "steps", "why"]),
        *(("", text_table(sizes, list(sizes[0]))) if sizes else ()),
        "",
        *(f"{name:<12} {value}" for name, value in costs.items()),
        *(f"{'covariates':<12} {line}" for line in found.covariates),
        *(f"{'assumed':<12} {line}" for line in found.assumptions),
        *(f"{'note':<12} {line}" for line in found.notes),
    ]
