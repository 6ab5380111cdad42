"""The verbs `suites` and `audit`: what was trained, and whether its checkpoints are sound."""

import logging
from collections.abc import Iterator
from dataclasses import asdict
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pythia_profile.cli.app import FACTS, verb
from pythia_profile.cli.options import AsJson, print_json, steps_of
from pythia_profile.text import steps_text, text_table

if TYPE_CHECKING:
    from pythia_profile.checkpoints.verdicts import Verdict
    from pythia_profile.profiles.dated import Dated
    from pythia_profile.suites.model import Suite

log = logging.getLogger(__name__)


class Action(StrEnum):
    """What the verb `suite` does."""

    new = "new"
    check = "check"


class TrainerKind(StrEnum):
    """Trainers whose runs a draft is made for."""

    neox = "neox"
    megatron = "megatron"
    core = "core"
    plain = "plain"


FAULTS_FOUND = 4
_USUAL = 2000
"""Controls of a study by default."""

_MOST_STEPS = 12


@verb(FACTS, "suites", "suites pythia-deduped", "suites polypythias --seed 3 --size 410m --json")
def suites(
    name: Annotated[str, typer.Argument(help="A suite, or a folder with suite.toml.")] = "",
    size: Annotated[str, typer.Option(help="One size of it.")] = "",
    seed: Annotated[
        int | None, typer.Option(help="Training seed.", show_default="the first", min=0)
    ] = None,
    template: Annotated[
        bool, typer.Option("--template", help="Print a suite.toml for models of your own.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show which suites are known, and what is known of one."""
    from pythia_profile.suites.describe import describe_size, describe_suite, describe_suites
    from pythia_profile.suites.registry import suite_facts_of

    if template:
        from pythia_profile.suites import folder

        typer.echo(folder.template(), nl=False)
        return
    if not name and size:
        raise typer.BadParameter("--size needs the name of a suite")
    if not name:
        known = describe_suites()
        print_json(known) if as_json else typer.echo(_all(known))
        return
    suite = suite_facts_of(name, seed)
    facts = describe_size(suite, size) if size else describe_suite(suite)
    if as_json:
        print_json(facts)
    else:
        typer.echo(_size(suite, facts) if size else _suite(facts))


@verb(
    FACTS,
    "suite new my-suite --kind neox --batch-size 1024 --steps 143000",
    "suite new my-suite --kind core --seed 34521 --batch-size 512 --steps 20000",
    "suite check my-suite",
)
def suite(
    action: Annotated[Action, typer.Argument(help="Draft a suite.toml, or check one.")],
    folder: Annotated[Path, typer.Argument(help="Folder of checkpoints and rows.")],
    kind: Annotated[TrainerKind, typer.Option(help="Trainer of the run.")] = TrainerKind.plain,
    batch_size: Annotated[
        int | None, typer.Option(help="Rows per step.", show_default="to be filled in", min=1)
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Steps of the run.", show_default="its last", min=1)
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Data seed.", show_default="not known", min=0)
    ] = None,
    peak_lr: Annotated[
        float | None, typer.Option(help="Highest rate.", show_default="not known", min=0)
    ] = None,
    warmup_steps: Annotated[
        int | None, typer.Option(help="Steps of warm-up.", show_default="0", min=0)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Draft a suite of your own from its folder, and check it.

    `new` writes a commented suite.toml with what the folder tells (sizes, checkpoints, shapes,
    rows), and `check` says what a study would find: rows, steps, checkpoints, one decoded row, and
    everything that is wrong at once, with exit code 2.
    """
    from pythia_profile.pipeline.own_run import check_suite
    from pythia_profile.suites.drafting import Given, draft
    from pythia_profile.suites.folder import FILE_NAME

    path = folder / FILE_NAME
    if action == Action.new:
        if path.exists():
            raise typer.BadParameter(f"'{path}' exists; `suite check {folder}` checks it")
        if not folder.is_dir():
            raise typer.BadParameter(f"no folder '{folder}'; it holds the run's checkpoints")
        given = Given(
            batch_size=batch_size,
            steps=steps,
            seed=seed,
            peak_lr=peak_lr,
            warmup_steps=warmup_steps,
        )
        path.write_text(draft(folder, kind.value, given), encoding="utf-8")
    found = check_suite(folder)
    if as_json:
        print_json({"file": str(path), **asdict(found)})
    else:
        written = [f"wrote {path}"] if action == Action.new else []
        wrong = [f"to mend: {fault}" for fault in found.faults]
        fewer = f" --set sample.never_treated={found.controls}" if found.controls < _USUAL else ""
        study = f"begin a study: pythia-profile init STUDY --suite {folder}{fewer}"
        again = f"then: pythia-profile suite check {folder}"
        typer.echo("\n".join([*written, *found.facts, *wrong, again if wrong else study]))
    if found.faults:
        raise typer.Exit(2)


def _all(known: list[dict[str, Any]]) -> str:
    shown = [{**line, "sizes": ", ".join(line["sizes"])} for line in known]
    return text_table(shown, ["name", "sizes", "title"])


def _suite(facts: dict[str, Any]) -> str:
    columns = ["name", "layers", "width", "heads", "parameters", "peak_lr", "min_lr"]
    others = ", ".join(str(seed) for seed in facts["seeds"] if seed != facts["seed"])
    made = "; any other is trained when it is asked for" if facts["name"] == "mini" else ""
    lines = [
        f"{facts['name']}: {facts['title']}",
        f"{facts['batch_size']:,} rows of {facts['row_tokens']:,} tokens a step, "
        f"{facts['steps']:,} steps; rate by {facts['schedule']}, "
        f"{facts['warmup_steps']:,} steps of warm-up",
        f"order: {facts['order']}",
        f"training seed {facts['seed']}" + (f"; others: {others}" if others else made),
        "",
        text_table(facts["sizes"], [*columns, "precision", "checkpoints", "weights"]),
    ]
    return "\n".join([*lines, *_faults(facts["faults"]), *_notes(facts["notes"])])


def _size(suite: "Suite", facts: dict[str, Any]) -> str:
    rates = [
        {"update": int(update), "rate": rate} for update, rate in facts["learning_rate"].items()
    ]
    steps = facts["checkpoint_steps"]
    known = steps_text(steps) if steps else "those that the repository lists"
    lines = [
        f"{suite.name} {facts['name']}: {facts['layers']} layers, width {facts['width']:,}, "
        f"{facts['heads']} heads, {facts['parameters']:,} parameters, {facts['precision']}",
        f"weights: {facts['weights']}, revisions {facts['revision']}",
        f"{len(steps)} checkpoints: {known}",
        f"rate by {facts['schedule']}: peak {facts['peak_lr']:.4g}, floor {facts['min_lr']:.4g}",
        "",
        text_table(rates, ["update", "rate"]),
    ]
    return "\n".join([*lines, *_faults(facts["faults"]), *_notes(suite.notes)])


def _faults(faults: list[dict[str, Any]]) -> list[str]:
    lines = ["", "reported of its checkpoints:"] if faults else []
    for fault in faults:
        where = " ".join(part for part in (fault["size"], steps_text(fault["steps"])) if part)
        threads = f" [{', '.join(fault['threads'])}]" if fault["threads"] else ""
        lines.append(f"  {where + ': ' if where else ''}{fault['what']}{threads}")
    return lines


def _notes(notes: Any) -> list[str]:
    return ["", *(f"note: {note}" for note in notes)] if notes else []


@verb(
    FACTS,
    "audit pythia --sizes 2.8b",
    "audit my-study --json",
    "audit pythia --sizes 70m --checkpoints 0,1000:143000:1000 --weights",
    "audit my-study --memory",
)
def audit(
    what: Annotated[
        str, typer.Argument(metavar="SUITE|FOLDER", help="A suite, its folder, or a study.")
    ],
    sizes: Annotated[
        str, typer.Option(help="Sizes, separated by commas.", show_default="all")
    ] = "",
    checkpoints: Annotated[
        str,
        typer.Option(help="Steps: 0,1000 or first:last:by.", show_default="all"),
    ] = "",
    seed: Annotated[int | None, typer.Option(help="Training seed of the suite.", min=0)] = None,
    weights: Annotated[
        bool, typer.Option("--weights", help="Read the weights, too: fetches every checkpoint.")
    ] = False,
    memory: Annotated[
        bool,
        typer.Option(
            "--memory",
            help="Date each checkpoint by what it remembers of the rows (exploratory; of a study "
            "that has been scored).",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Find faulty checkpoints, by default from listings alone.

    They are missing, duplicated, share files, or have files of a wrong size.

    Reads file listings only, unless --weights is given; for a study that has been scored, its
    scores are examined, too. With --memory, checkpoints that hold the weights of another step are
    found by what they remember, and memory_dates.parquet says which step that is. Exits with code 4
    where a checkpoint is faulty.
    """
    from pythia_profile.checkpoints.identity import Evidence
    from pythia_profile.checkpoints.identity import audit as judge
    from pythia_profile.checkpoints.verdicts import MISSING, faulty

    chosen = _chosen(what, seed)
    names = [name.strip() for name in sizes.split(",")] if sizes else chosen.pop("sizes")
    steps = steps_of(checkpoints) if checkpoints else chosen.pop("steps")
    chosen.pop("sizes", None)
    chosen.pop("steps", None)
    suite = chosen.pop("suite")
    tables = {name: chosen.pop(name, None) for name in ("rows", "scores")}
    evidence = Evidence(weights=weights, **tables)
    verdicts = judge(suite, names, steps, evidence=evidence, on_message=_log, **chosen)
    wrong = faulty(verdicts)
    dated = _dated(Path(what), names) if memory else None
    if as_json:
        listed = [asdict(verdict) for verdict in verdicts]
        gone = sum(verdict.verdict == MISSING for verdict in wrong)
        counts = {"faulty": len(wrong) - gone, "missing": gone}
        dates = {} if dated is None else {"memory": dated.table.to_dicts()}
        print_json({"checkpoints": len(verdicts), **counts, "verdicts": listed, **dates})
    else:
        typer.echo("\n".join([*_audit_lines(verdicts), *(dated.sentences if dated else ())]))
    if wrong or (dated is not None and dated.table["far"].any()):
        raise typer.Exit(FAULTS_FOUND)


def _dated(folder: Path, sizes: "list[str] | None") -> "Dated":
    """Date the checkpoints of a study's sizes."""
    from pythia_profile.pipeline.dated_study import dates_of

    if not (folder / "study.toml").is_file():
        raise typer.BadParameter(f"--memory: '{folder}' is no study; name one that has been scored")
    return dates_of(folder, sizes)


def _log(line: str) -> None:
    log.info("%s", line)


def _chosen(what: str, seed: int | None) -> dict[str, Any]:
    """Find what is to be audited: a study with its pins and scores, or a suite."""
    from pythia_profile.errors import MissingTableError, NotFoundError
    from pythia_profile.suites.registry import suite_there

    folder = Path(what)
    if not (folder / "study.toml").is_file():
        suite = suite_there(what, seed)
        if not suite.sizes:
            raise NotFoundError(
                f"no size of suite '{what}' has been trained here; nothing to audit"
            )
        return {"suite": suite, "sizes": None, "steps": None}
    from pythia_profile.pipeline.inputs import study_scores
    from pythia_profile.pipeline.pinned import pins_of
    from pythia_profile.store import read_table
    from pythia_profile.study import open_study
    from pythia_profile.suites.registry import open_suite
    from pythia_profile.tables import ROWS

    study = open_study(folder)
    suite = open_suite(study.suite, study.sizes, study.training_seed, near=folder)
    found: dict[str, Any] = {"suite": suite, "sizes": list(study.sizes), "pins": pins_of(folder)}
    found["steps"] = list(study.checkpoints) or None
    try:
        found["rows"] = read_table(folder / "rows.parquet", ROWS, "sample")
        found["scores"] = study_scores(folder, study, suite)
    except MissingTableError:
        found.pop("rows", None)
    return found


def _audit_lines(verdicts: "list[Verdict]") -> Iterator[str]:
    """Lay out steps and sizes, neighbors with equal verdicts in one line; then the reasons."""
    from pythia_profile.checkpoints.verdicts import MISSING, faulty, tally

    sizes = list(dict.fromkeys(verdict.size for verdict in verdicts))
    found = {(verdict.size, verdict.step): verdict.verdict for verdict in verdicts}
    steps = sorted({verdict.step for verdict in verdicts})
    lines = []
    for words, group in groupby(steps, key=lambda s: [found.get((n, s), "–") for n in sizes]):
        members = list(group)
        name = f"{members[0]}" + (f" to {members[-1]} ({len(members)})" if members[1:] else "")
        lines.append({"step": name, **dict(zip(sizes, words, strict=True))})
    yield text_table(lines, ["step", *sizes])
    yield ""
    wrong = faulty(verdicts)
    remarks: dict[tuple[str, str], list[int]] = {}
    for verdict in wrong:
        for reason in verdict.reasons:
            remarks.setdefault((verdict.size, reason), []).append(verdict.step)
    for verdict in verdicts:
        for note in verdict.notes:
            remarks.setdefault((verdict.size, note), []).append(verdict.step)
    for (size, remark), of_steps in remarks.items():
        yield f"{size} {steps_text(of_steps, _MOST_STEPS)}: {remark}"
    gone = sum(verdict.verdict == MISSING for verdict in wrong)
    yield tally(len(wrong) - gone, gone, len(verdicts))
