"""Verbs of the lab `capacity`."""

from pathlib import Path
from typing import Annotated

import typer

from pythia_profile.cli.app import verb, verbs
from pythia_profile.cli.options import AsJson, print_json

app = verbs("How many bits a model holds, and how many its profile says it holds.")

SECTION = "Verbs"


@verb(
    SECTION,
    "lab capacity score --target my/scores/mini/xs --reference my/scores/mini/l "
    "--rows my/rows.parquet",
    "lab capacity score --target a.parquet --reference uniform --vocabulary 50304 --tokens 2048",
    group=app,
)
def score(
    target: Annotated[
        Path, typer.Option(metavar="SCORES", help="Scores of one run: a file, or its folder.")
    ],
    reference: Annotated[
        str, typer.Option(metavar="SCORES", help="Scores of the same rows by another, or uniform.")
    ],
    rows: Annotated[
        Path | None, typer.Option(metavar="ROWS", help="Table of the rows and their tokens.")
    ] = None,
    tokens: Annotated[
        int | None, typer.Option(min=1, help="Or: scored tokens of every row.")
    ] = None,
    vocabulary: Annotated[int | None, typer.Option(help="Entries, of a uniform reference.")] = None,
    checkpoint: Annotated[
        int | None, typer.Option(help="Of the target.", show_default="its last")
    ] = None,
    reference_checkpoint: Annotated[
        int | None, typer.Option(help="Of the reference.", show_default="its last")
    ] = None,
    code: Annotated[str, typer.Option(help="max, or the normalized mixture.")] = "max",
    out: Annotated[Path, typer.Option(help="Where the bits of each row go.")] = Path(
        "row_bits.parquet"
    ),
    as_json: AsJson = False,
) -> None:
    """Bits that a model holds of each row beyond a reference.

    Unintended memorization: log2 of the row's probability by the target less that by the reference,
    0 at least. Writes one line a row; the result depends on the reference, which each line names.
    """
    from pythia_profile.errors import StudyError
    from pythia_profile.labs.capacity import capacity_scores as scores
    from pythia_profile.store import atomic_write

    if (reference == scores.UNIFORM) != (vocabulary is not None):
        raise StudyError(
            "--vocabulary: got "
            f"{vocabulary} with --reference {reference}; a uniform reference needs it, no other"
        )
    own = scores.read_run(target, checkpoint)
    theirs = vocabulary or 0
    found = scores.row_bits(
        own,
        theirs
        if reference == scores.UNIFORM
        else scores.read_run(Path(reference), reference_checkpoint),
        scores.scored_tokens(own["row_id"], tokens, rows),
        code=code,
    )
    with atomic_write(out) as file:
        found.write_parquet(file)
    bits = found["bits"].to_numpy()
    facts = {
        "target": found["target"][0],
        "reference": found["reference"][0],
        "code": code,
        "rows": len(found),
        "bits": float(bits.sum()),
        "bits_per_row": float(bits.mean()),
        "share_above_0": float((bits > 0).mean()),
        "table": str(out),
    }
    if as_json:
        print_json(facts)
    else:
        typer.echo(
            f"{facts['target']} holds {facts['bits']:,.0f} bits of {len(found):,} rows beyond "
            f"{facts['reference']} ({code} code): {facts['bits_per_row']:.2f} a row, above 0 for "
            f"{facts['share_above_0']:.0%} of them\nbits of each row: {out}"
        )
