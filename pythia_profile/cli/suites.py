"""The verb `suites`: what was trained, on which order, at which rates, and where it lies."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pythia_profile.cli.app import app

if TYPE_CHECKING:
    from pythia_profile.suites.model import Suite

_EXAMPLES = """\b
Examples:
  pythia-profile suites
  pythia-profile suites pythia-deduped
  pythia-profile suites polypythias --seed 3 --size 410m --json"""


@app.command(epilog=_EXAMPLES)
def suites(
    name: Annotated[str, typer.Argument(help="A suite, or a folder with suite.toml.")] = "",
    size: Annotated[str, typer.Option(help="One size of it.")] = "",
    seed: Annotated[
        int | None, typer.Option(help="Training seed.", show_default="the first", min=0)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show which suites there are, what is known of one, or of one of its sizes."""
    from pythia_profile.suites.describe import describe_size, describe_suite, describe_suites
    from pythia_profile.suites.registry import suite_facts_of

    if not name and size:
        raise typer.BadParameter("--size needs the name of a suite")
    if not name:
        lines = describe_suites()
        typer.echo(json.dumps(lines, indent=2) if as_json else _all(lines))
        return
    suite = suite_facts_of(name, seed)
    facts = describe_size(suite, size) if size else describe_suite(suite)
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
    else:
        typer.echo(_size(suite, facts) if size else _suite(facts))


def _all(lines: list[dict[str, Any]]) -> str:
    from pythia_profile.cli.table import as_table

    shown = [{**line, "sizes": ", ".join(line["sizes"])} for line in lines]
    return as_table(shown, ["name", "sizes", "title"])


def _suite(facts: dict[str, Any]) -> str:
    from pythia_profile.cli.table import as_table

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
        as_table(facts["sizes"], [*columns, "precision", "checkpoints", "weights"]),
    ]
    return "\n".join([*lines, *_faults(facts["faults"]), *_notes(facts["notes"])])


def _size(suite: "Suite", facts: dict[str, Any]) -> str:
    from pythia_profile.cli.table import as_table, steps_in_words

    rates = [
        {"update": int(update), "rate": rate} for update, rate in facts["learning_rate"].items()
    ]
    steps = facts["checkpoint_steps"]
    known = steps_in_words(steps) if steps else "those that the repository lists"
    lines = [
        f"{suite.name} {facts['name']}: {facts['layers']} layers, width {facts['width']:,}, "
        f"{facts['heads']} heads, {facts['parameters']:,} parameters, {facts['precision']}",
        f"weights: {facts['weights']}, revisions {facts['revision']}",
        f"{len(steps)} checkpoints: {known}",
        f"rate by {facts['schedule']}: peak {facts['peak_lr']:.4g}, floor {facts['min_lr']:.4g}",
        "",
        as_table(rates, ["update", "rate"]),
    ]
    return "\n".join([*lines, *_faults(facts["faults"]), *_notes(suite.notes)])


def _faults(faults: list[dict[str, Any]]) -> list[str]:
    from pythia_profile.cli.table import steps_in_words

    lines = ["", "reported of its checkpoints:"] if faults else []
    for fault in faults:
        where = " ".join(part for part in (fault["size"], steps_in_words(fault["steps"])) if part)
        threads = f" [{', '.join(fault['threads'])}]" if fault["threads"] else ""
        lines.append(f"  {where + ': ' if where else ''}{fault['what']}{threads}")
    return lines


def _notes(notes: Any) -> list[str]:
    return ["", *(f"note: {note}" for note in notes)] if notes else []
