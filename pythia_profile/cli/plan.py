"""The verb `plan`: what scoring a study would take, before anything is fetched."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pythia_profile.cli.app import app

if TYPE_CHECKING:
    from pythia_profile.pipeline.planning import Plan


@app.command(
    epilog="Examples: pythia-profile plan my-study · pythia-profile plan my-study --bandwidth 20 "
    "--workers 8 --json"
)
def plan(
    study: Annotated[Path, typer.Argument(help="Folder of the study.", show_default=False)],
    bandwidth: Annotated[float, typer.Option(help="MB per second from the hub.")] = 50.0,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes at a time.", show_default="the cores at hand", min=1),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what scoring would take: units and why, GB, disk, device-hours, requests, wall time.

    No weights are fetched, only listings that are not pinned yet.

    Hours come from the rate of units that have been scored.
    """
    from pythia_profile.pipeline.planning import plan_study

    found = plan_study(study, workers=workers, bandwidth=bandwidth * 1e6)
    if as_json:
        content = {**asdict(found), "states": found.states, "fetch_hours": found.fetch_hours}
        typer.echo(json.dumps(content, indent=2))
    else:
        typer.echo("\n".join(_lines(found)))


def _lines(found: "Plan") -> list[str]:
    from pythia_profile.cli.table import as_table, steps_in_words

    groups: dict[tuple[str, str, str], list[int]] = {}
    for unit in found.units:
        groups.setdefault((unit.size, unit.state, unit.why), []).append(unit.checkpoint)
    units = [
        {
            "size": size,
            "units": len(steps),
            "state": state,
            "why": why,
            "steps": steps_in_words(sorted(steps)),
        }
        for (size, state, why), steps in groups.items()
    ]
    hours = "not known before a unit has been scored"
    wall = hours
    if found.device_hours is not None:
        hours = f"{found.device_hours:.3g} h, by the rate of the units scored so far"
    if found.wall_hours is not None:
        wall = f"{found.wall_hours:.3g} h with {found.workers} workers"
    costs = [
        ("rows", f"{found.rows:,} of {found.targets:,} targets at each checkpoint"),
        ("to fetch", f"{found.fetch_bytes / 1e9:.3f} GB, {found.here_bytes / 1e9:.3f} GB are here"),
        ("requests", f"{found.requests:,}"),
        ("fetching", f"{found.fetch_hours:.3g} h at {found.bandwidth / 1e6:g} MB/s"),
        ("operations", f"{found.operations:.3g} (2 · parameters · tokens)"),
        ("device time", hours),
        ("wall time", wall),
        ("peak disk", f"{found.peak_disk_bytes / 1e9:.3f} GB"),
        ("output", f"{found.output_bytes / 1e9:.3f} GB"),
    ]
    return [
        as_table(units, ["size", "units", "state", "steps", "why"]),
        "",
        *(f"{name:<12} {said}" for name, said in costs),
    ]
