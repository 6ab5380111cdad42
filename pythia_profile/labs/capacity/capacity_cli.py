"""Verbs of the lab `capacity`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pythia_profile.cli.app import verb, verbs
from pythia_profile.cli.options import HERE, AsJson, StudyFolder, Workers, check_out, print_json

if TYPE_CHECKING:
    from pythia_profile.labs.capacity.capacity_settings import CapacitySettings

app = verbs("How many bits a model holds, and how many its profile says it holds.")

SECTION = "Verbs"
Out = Annotated[Path, typer.Option(help="Folder of runs, tables, figures and the report.")]


@verb(
    SECTION,
    "lab capacity demo",
    "lab capacity demo --out small --minutes 2 --seed 1",
    group=app,
)
def demo(
    out: Out = Path("capacity-demo"),
    minutes: Annotated[
        float,
        typer.Option(min=0.01, help="Of two idle cores; sets the steps, and is not measured."),
    ] = 5.0,
    seed: Annotated[int, typer.Option(min=0, help="Of data and initial weights.")] = 0,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Bits held by two small models of uniform tokens.

    Seven numbers of rows a size, from a quarter of a bit a parameter to 4.5. The same command goes
    on where it was stopped.
    """
    from pythia_profile.labs.capacity.capacity_settings import demo_settings

    _run(demo_settings(minutes, seed), out, "cpu", workers, as_json)


@verb(
    SECTION,
    "lab capacity run capacity.toml --out my-capacity",
    group=app,
)
def run(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="Settings.")],
    out: Out = Path("capacity"),
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "cpu",
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Measure the same of your own shapes, data and budgets.

    The demo writes its settings as `capacity.toml`: a file to start from.
    """
    from pythia_profile.labs.capacity.capacity_settings import CapacitySettings
    from pythia_profile.settings import checked, read_toml

    settings = checked(CapacitySettings, read_toml(config), f"'{config}'")
    _run(settings, out, device, workers, as_json)


def _run(
    settings: "CapacitySettings", out: Path, device: str, workers: int | None, as_json: bool
) -> None:
    from pythia_profile.execute.resources import chosen_device
    from pythia_profile.labs.capacity.capacity_page import run_capacity
    from pythia_profile.labs.capacity.capacity_summary import bits_a_parameter

    found, page = run_capacity(settings, out, device=chosen_device(device), workers=workers)
    if as_json:
        print_json({"capacities": found.fill_nan(None).to_dicts(), "report": str(page)})
        return
    for line in found.iter_rows(named=True):
        typer.echo(
            f"{line['size']}, {line['parameters']:,} parameters, {line['dtype']}, "
            f"{line['steps']:,} steps: {line['capacity']:,.0f} bits, "
            f"{bits_a_parameter(line)}"
            + ("" if line["converged"] else f"; not converged (late gain {line['late_gain']:.0%})")
        )
    typer.echo(f"report: {page}")


@verb(
    SECTION,
    "lab capacity text --out text",
    "lab capacity text text/text.toml --out text --seed 1",
    group=app,
)
def text(
    config: Annotated[
        Path | None,
        typer.Argument(metavar="CONFIG.toml", help="Settings.", show_default="as measured"),
    ] = None,
    out: Out = Path("capacity-text"),
    seed: Annotated[int | None, typer.Option(min=0, help="In place of the settings' own.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "cpu",
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Bits held of text, beyond models that read more of it.

    Rows of Python's own sources. References are a model of the same size and a larger one, both
    trained on a superset of the rows.
    """
    from pythia_profile.execute.resources import chosen_device
    from pythia_profile.labs.capacity.capacity_settings import TextSettings
    from pythia_profile.labs.capacity.capacity_text_page import run_text
    from pythia_profile.settings import checked, read_toml

    given = {} if config is None else read_toml(config)
    settings = checked(
        TextSettings,
        given if seed is None else {**given, "seed": seed},
        "the settings" if config is None else f"'{config}'",
    )
    found, page = run_text(settings, out, device=chosen_device(device), workers=workers)
    if as_json:
        print_json({"text": found.text.to_dicts(), "report": str(page)})
        return
    for line in found.text.iter_rows(named=True):
        typer.echo(
            f"{line['rows']:,} rows, beyond {line['reference']}: {line['bits']:,.0f} bits, "
            f"{line['bits_per_row']:.2f} a row, above 0 for {line['share_above_0']:.0%} of them"
        )
    typer.echo(f"report: {page}")


@verb(
    SECTION,
    "lab capacity bridge my-demo",
    "lab capacity bridge my-demo --reference m --out bits",
    group=app,
)
def bridge(
    study: StudyFolder = HERE,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="The larger reference.", show_default="knows the rows best"
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of tables, figures and the report.")] = Path(
        "capacity-bridge"
    ),
    as_json: AsJson = False,
) -> None:
    """Bits of a row by its profile and by mem_U, beside the truth.

    Of a study with counterfactual retrainings (mini suite): the profile needs no reference model,
    mem_U does; the retrainings are the truth of both.
    """
    from pythia_profile.labs.capacity.capacity_bridge import bridge_facts
    from pythia_profile.labs.capacity.capacity_bridge_page import bridge_sentences, run_bridge

    found, page = run_bridge(study, out, reference)
    facts = bridge_facts(found)
    if as_json:
        print_json({"size": found.size, "larger": found.larger, **facts, "report": str(page)})
        return
    typer.echo("\n".join([*bridge_sentences(found, facts).values(), f"report: {page}"]))


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
    uniform = reference == scores.UNIFORM
    check_out(out, target, *([] if uniform else [Path(reference)]), *([rows] if rows else []))
    own = scores.read_run(target, checkpoint)
    theirs = vocabulary or 0
    found = scores.row_bits(
        own,
        theirs if uniform else scores.read_run(Path(reference), reference_checkpoint),
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
