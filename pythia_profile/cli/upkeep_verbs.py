"""Verbs about what is there: `verify` a study, `doctor` a machine, the `cache`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from pythia_profile.cli.app import FACTS, STUDY, verb
from pythia_profile.cli.options import HERE, AsJson, StudyFolder, print_json
from pythia_profile.text import text_table


@verb(STUDY, "verify my-study", "verify my-study --rescore 3")
def verify(
    study: StudyFolder = HERE,
    rescore: Annotated[
        int, typer.Option(help="Checkpoints to score again and compare.", min=0)
    ] = 0,
    seed: Annotated[int, typer.Option(help="Of the draw of these.", min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """Compare a study with its own records.

    Hashes, counts and values of rows, scored checkpoints and tables. Exit code 1 where something
    is not what was written.
    """
    from pythia_profile.pipeline.verification import verify_study

    lines = [asdict(line) for line in verify_study(study, rescore=rescore, seed=seed)]
    faults = sum(line["state"] != "ok" for line in lines)
    if as_json:
        print_json(lines)
    else:
        typer.echo(text_table(lines, ["what", "state", "detail"]))
        typer.echo(f"{len(lines) - faults} of {len(lines)} as they were written")
    if faults:
        raise typer.Exit(1)


@verb(FACTS, "cite", "cite my-study > references.bib", "cite my-study --json")
def cite(study: StudyFolder = HERE, as_json: AsJson = False) -> None:
    """Print how to cite: BibTeX of all that was used.

    Of this package, the published method, and every method and suite that the study used; without a
    study, of what every study uses. With --json also the paragraph of methods.
    """
    from pythia_profile.pipeline.results import study_citations

    found = study_citations(study)
    if as_json:
        print_json(found)
    else:
        typer.echo(found["bibtex"])


@verb(FACTS, "doctor", "doctor --json")
def doctor(
    folder: Annotated[Path, typer.Argument(help="Where studies are kept.")] = HERE,
    as_json: AsJson = False,
) -> None:
    """Look at this machine: what runs depend on.

    Python, libraries, device, memory, disk, file locks, hub, token, cluster engines. Nothing is
    fetched. Exit code 1 where something will not do.
    """
    from pythia_profile.pipeline.health import diagnose

    lines = [asdict(line) for line in diagnose(folder)]
    if as_json:
        print_json(lines)
    else:
        shown = [{**line, "good": "ok" if line["good"] else "look"} for line in lines]
        typer.echo(text_table(shown, ["good", "what", "detail"]))
    if not all(line["good"] for line in lines):
        raise typer.Exit(1)


@verb(FACTS, "cache", "cache --prune checkpoints")
def cache(
    prune: Annotated[
        list[str] | None, typer.Option(help="Part to delete, by its name; repeatable.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what is kept of the hub and the mini suite.

    Everything in it is fetched or made again when it is needed.
    """
    from pythia_profile.pipeline.health import cache_contents, prune_cache

    if prune:
        freed = prune_cache(prune)
        typer.echo(f"{freed / 1e9:.3f} GB freed", err=as_json)
    root, kept = cache_contents()
    if as_json:
        print_json({"folder": str(root), "parts": [asdict(one) for one in kept]})
        return
    lines = [{"part": k.name, "GB": f"{k.size / 1e9:.3f}", "files": k.files} for k in kept]
    typer.echo(str(root))
    typer.echo(text_table(lines, ["part", "GB", "files"]) if lines else "empty")
