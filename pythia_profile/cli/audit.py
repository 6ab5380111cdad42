"""The verb `audit`: whether published checkpoints are what they claim to be."""

import json
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pythia_profile.cli.app import app

if TYPE_CHECKING:
    from pythia_profile.checkpoints.audit import Verdict

FAULTS_FOUND = 4

_EXAMPLES = """\b
Examples:
  pythia-profile audit pythia --sizes 2.8b
  pythia-profile audit my-study --json
  pythia-profile audit pythia --sizes 70m --checkpoints 0,1000:143000:1000 --weights"""


@app.command(epilog=_EXAMPLES)
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
        bool, typer.Option("--weights", help="Read the weights too: fetches every checkpoint.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Judge checkpoints by their listing: missing, equal, shared, of odd size; exit 4 on faults.

    Of a study that has been scored, the scores are judged too.
    """
    from pythia_profile.checkpoints.audit import faulty
    from pythia_profile.checkpoints.identity import audit as judge
    from pythia_profile.cli.steps import parsed_steps

    chosen = _chosen(what, seed)
    names = [name.strip() for name in sizes.split(",")] if sizes else chosen.pop("sizes")
    steps = parsed_steps(checkpoints) if checkpoints else chosen.pop("steps")
    chosen.pop("sizes", None)
    chosen.pop("steps", None)
    verdicts = judge(chosen.pop("suite"), names, steps, weights=weights, tell=_tell, **chosen)
    wrong = faulty(verdicts)
    if as_json:
        content = {
            "checkpoints": len(verdicts),
            "faulty": len(wrong),
            "verdicts": [asdict(verdict) for verdict in verdicts],
        }
        typer.echo(json.dumps(content, indent=2))
    else:
        typer.echo("\n".join(_lines(verdicts)))
    if wrong:
        raise typer.Exit(FAULTS_FOUND)


def _chosen(what: str, seed: int | None) -> dict[str, Any]:
    """Find out what is to be judged: a study with its pins and scores, or a suite."""
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
    from pythia_profile.pipeline.pinned import pins_of
    from pythia_profile.scoring.tables import study_scores
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
        found["scores"] = study_scores(folder, study, suite, found["rows"])
    except MissingTableError:
        found.pop("rows", None)
    return found


def _tell(line: str) -> None:
    import logging

    logging.getLogger("pythia_profile.audit").info("%s", line)


def _lines(verdicts: "list[Verdict]") -> list[str]:
    """Lay out a table of steps and sizes, neighbors with equal verdicts in one line; reasons."""
    from pythia_profile.checkpoints.audit import faulty
    from pythia_profile.cli.table import as_table, steps_in_words

    sizes = list(dict.fromkeys(verdict.size for verdict in verdicts))
    by_place = {(verdict.size, verdict.step): verdict.verdict for verdict in verdicts}
    steps = sorted({verdict.step for verdict in verdicts})
    lines = []
    for said, group in groupby(steps, key=lambda s: [by_place.get((n, s), "–") for n in sizes]):
        members = list(group)
        name = f"{members[0]}" + (f" to {members[-1]} ({len(members)})" if members[1:] else "")
        lines.append({"step": name, **dict(zip(sizes, said, strict=True))})
    wrong = faulty(verdicts)
    shown = [as_table(lines, ["step", *sizes]), ""]
    reasons: dict[tuple[str, str], list[int]] = {}
    for verdict in wrong:
        for reason in verdict.reasons:
            reasons.setdefault((verdict.size, reason), []).append(verdict.step)
    for (size, reason), places in reasons.items():
        where = steps_in_words(places) if len(places) <= 12 else f"{len(places)} steps"
        shown.append(f"{size} {where}: {reason}")
    notes: dict[tuple[str, str], list[int]] = {}
    for verdict in verdicts:
        for note in verdict.notes:
            notes.setdefault((verdict.size, note), []).append(verdict.step)
    for (size, note), places in notes.items():
        where = steps_in_words(places) if len(places) <= 12 else f"{len(places)} steps"
        shown.append(f"{size} {where}: {note}")
    return [*shown, f"{len(wrong)} of {len(verdicts)} checkpoints are faulty"]
