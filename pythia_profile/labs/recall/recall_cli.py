"""Verbs of the lab `recall`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pythia_profile.cli.app import verb, verbs
from pythia_profile.cli.options import HERE, AsJson, StudyFolder, Workers, print_json

if TYPE_CHECKING:
    import polars as pl

    from pythia_profile.labs.recall.recall_settings import Lengths

app = verbs("Which sequences models give back word for word.")

SECTION = "Verbs"
Prompt = Annotated[int, typer.Option(min=1, help="Tokens that the model reads.")]
Continuation = Annotated[int, typer.Option(min=1, help="Tokens that it is to give back.")]
Until = Annotated[
    float | None,
    typer.Option(
        help="Parameters up to which the prediction of the largest is fitted.",
        show_default="all below the largest",
    ),
]


@verb(SECTION, "lab recall demo", "lab recall demo --out small --steps 300", group=app)
def demo(
    out: Annotated[Path, typer.Option(help="Folder of models, tables, figures and the report.")] = (
        Path("recall-demo")
    ),
    steps: Annotated[int, typer.Option(min=10, help="Optimizer steps of each size.")] = 1500,
    seed: Annotated[int, typer.Option(min=0, help="Of corpus, order and weights.")] = 0,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Recall of a planted corpus by four sizes, with every analysis of this lab.

    Sequences occur 1 to 64 times; others are never read. The same command goes on where it was
    stopped.
    """
    from pythia_profile.labs.recall.recall_page import run_recall, sentences
    from pythia_profile.labs.recall.recall_settings import RecallSettings
    from pythia_profile.training.planted import PlantedSettings

    settings = RecallSettings(steps=steps, corpus=PlantedSettings(seed=seed))
    tables, page = run_recall(settings, out, workers=workers)
    if as_json:
        print_json({"sizes": tables.sizes.to_dicts(), "report": str(page)})
        return
    for sentence in sentences(tables).values():
        typer.echo(sentence)
    typer.echo(f"report: {page}")


@verb(
    SECTION,
    "lab recall score my-study",
    "lab recall score my-study --prompt 16 --continuation 16 --exact-only",
    group=app,
)
def score(
    study: StudyFolder = HERE,
    prompt: Prompt = 32,
    continuation: Continuation = 32,
    exact_only: Annotated[
        bool, typer.Option(help="Whole matches only: one forward pass, nothing decoded.")
    ] = False,
    p: Annotated[float, typer.Option(help="Probability of extraction by sampling.")] = 0.5,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Give each row's first tokens to every checkpoint, and compare what it goes on with.

    Writes `recall/P_C.parquet` in the study. What was scored before is read.
    """
    import polars as pl

    from pythia_profile.labs.recall import recall_scores as scores
    from pythia_profile.labs.recall.recall_sampling import draws_needed
    from pythia_profile.scoring.settings import RunOptions

    lengths = _lengths(prompt, continuation)
    found = scores.score_recall(
        study, lengths, exact_only=exact_only, options=RunOptions(workers=workers)
    )
    needed = draws_needed(found["log_p"].to_numpy(), p)
    table = (
        scores.last_checkpoints(found.with_columns(draws=pl.Series(needed)))
        .group_by("size", "checkpoint", maintain_order=True)
        .agg(
            pl.len().alias("rows"),
            pl.col("full").sum().alias("memorized"),
            pl.col("full").mean().alias("rate"),
            pl.col("share").mean().alias("mean_share"),
            pl.col("leading").mean().alias("mean_leading"),
            pl.col("draws").le(1000).mean().alias("within_1000_samples"),
        )
    )
    _show(table, as_json, path=str(scores.recall_path(study, lengths)))


@verb(
    SECTION,
    "lab recall model open_llama_3b --rows rows.parquet --family openllama --out openllama.parquet",
    group=app,
)
def model(
    folder: Annotated[Path, typer.Argument(help="Hugging Face files of one model.")],
    rows: Annotated[Path, typer.Option(help="Table of rows, tokens by the model's tokenizer.")],
    out: Annotated[Path, typer.Option(help="Where the table goes.")] = Path("recall.parquet"),
    family: Annotated[
        str, typer.Option(help="Its family: what preceded a text in training precedes each row.")
    ] = "",
    prompt: Prompt = 32,
    continuation: Continuation = 32,
    exact_only: Annotated[bool, typer.Option(help="Whole matches only.")] = False,
    as_json: AsJson = False,
) -> None:
    """Score rows under one model of this machine, such as a family's only published weights.

    `lab recall overlap` compares such tables.
    """
    import polars as pl

    from pythia_profile.labs.recall import recall_scores as scores
    from pythia_profile.labs.recall.recall_families import family as family_of
    from pythia_profile.store import atomic_write, read_table
    from pythia_profile.tables import ROWS

    found = scores.score_model(
        folder,
        read_table(rows, ROWS, "sample"),
        _lengths(prompt, continuation),
        of=family_of(family) if family else None,
        exact_only=exact_only,
    )
    with atomic_write(out) as file:
        found.write_parquet(file)
    means = pl.col("full").mean().alias("rate"), pl.col("share").mean().alias("mean_share")
    table = found.select(pl.len().alias("rows"), pl.col("full").sum().alias("memorized"), *means)
    _show(table, as_json, path=str(out))


@verb(
    SECTION,
    "lab recall published",
    "lab recall published --until 7e9 --json",
    group=app,
)
def published(until: Until = 1.5e9, as_json: AsJson = False) -> None:
    """Fit published counts of memorized sequences of Pythia against size; needs no model."""
    from pythia_profile.labs.recall.recall_fits import PUBLISHED, fit_sentences, fit_table

    tables = {suite: fit_table(models, until=until) for suite, models in PUBLISHED.items()}
    if as_json:
        print_json({suite: table.to_dicts() for suite, table in tables.items()})
        return
    for suite, table in tables.items():
        typer.echo(f"{suite}, {len(PUBLISHED[suite])} sizes:")
        for sentence in fit_sentences(table):
            typer.echo(f"  {sentence}")


@verb(SECTION, "lab recall fit my-study", "lab recall fit models.csv --until 1e9", group=app)
def fit(
    source: Annotated[
        Path,
        typer.Argument(help="A study, or a table: parameters, memorized, rows (.parquet, .csv)."),
    ] = HERE,
    prompt: Prompt = 32,
    continuation: Continuation = 32,
    until: Until = None,
    as_json: AsJson = False,
) -> None:
    """Fit the share of memorized rows against size: three forms, and the largest left out."""
    from pythia_profile.labs.recall.recall_fits import fit_sentences, fit_table, read_models

    if source.is_dir():
        from pythia_profile.labs.recall.recall_across import study_models

        models = study_models(source, _lengths(prompt, continuation))
    else:
        models = read_models(source)
    table = fit_table(models, until=until)
    if as_json:
        print_json({"models": models.to_dicts(), "forms": table.fill_nan(None).to_dicts()})
        return
    for sentence in fit_sentences(table):
        typer.echo(sentence)


@verb(SECTION, "lab recall transitions my-study", group=app)
def transitions(
    study: StudyFolder = HERE,
    prompt: Prompt = 32,
    continuation: Continuation = 32,
    as_json: AsJson = False,
) -> None:
    """Rows learned and forgotten from checkpoint to checkpoint, and from size to size."""
    from pythia_profile.labs.recall.recall_across import study_transitions

    along, between = study_transitions(study, _lengths(prompt, continuation))
    if as_json:
        print_json({"checkpoints": along.to_dicts(), "sizes": between.to_dicts()})
        return
    _show(along, as_json)
    _show(between, as_json)


@verb(
    SECTION,
    "lab recall overlap my-study",
    "lab recall overlap one.parquet other.parquet",
    group=app,
)
def overlap(
    scored: Annotated[
        list[Path], typer.Argument(metavar="SCORED...", help="Studies of the same rows, or tables.")
    ],
    prompt: Prompt = 32,
    continuation: Continuation = 32,
    as_json: AsJson = False,
) -> None:
    """Compare the memorized sets of sizes and of families, beside what chance would give."""
    from pythia_profile.labs.recall.recall_across import study_overlap

    _show(study_overlap(scored, _lengths(prompt, continuation)), as_json)


@verb(SECTION, "lab recall counts my-study", group=app)
def counts(
    study: StudyFolder = HERE,
    prompt: Prompt = 32,
    continuation: Continuation = 32,
    as_json: AsJson = False,
) -> None:
    """Share given back by how often the continuation had been read, counted exactly.

    Needs a suite whose rows are on this machine.
    """
    from pythia_profile.labs.recall.recall_across import study_counts

    _show(study_counts(study, _lengths(prompt, continuation)), as_json)


@verb(SECTION, "lab recall kinds my-study --recited 5", group=app)
def kinds(
    study: StudyFolder = HERE,
    prompt: Prompt = 32,
    continuation: Continuation = 32,
    recited: Annotated[int, typer.Option(min=1, help="Occurrences of a recitation.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Kinds and domains of the rows that are given back, beside those of all rows.

    Needs a suite whose rows and tokenizer are on this machine.
    """
    from pythia_profile.labs.recall.recall_across import study_kinds

    of_kind, of_domain = study_kinds(study, _lengths(prompt, continuation), recited=recited)
    if as_json:
        print_json({"kinds": of_kind.to_dicts(), "domains": of_domain.to_dicts()})
        return
    _show(of_kind, as_json)
    _show(of_domain, as_json)


@verb(SECTION, "lab recall compress my-study --size xs", group=app)
def compress(
    study: StudyFolder = HERE,
    size: Annotated[str, typer.Option(help="Size whose last checkpoint is asked.")] = "",
    prompt: Prompt = 32,
    continuation: Continuation = 32,
    as_json: AsJson = False,
) -> None:
    """Shortest suffix of the prompt that still gives the whole continuation, for each row.

    Needs checkpoints in a folder of this machine.
    """
    from pythia_profile.labs.recall.recall_across import study_compressibility
    from pythia_profile.study import open_study

    wanted = size or open_study(study).sizes[-1]
    _show(study_compressibility(study, _lengths(prompt, continuation), wanted), as_json)


@verb(SECTION, "lab recall families", group=app)
def families(as_json: AsJson = False) -> None:
    """Families of models: class, tokenizer, what precedes a text, suites and repositories."""
    from pythia_profile.labs.recall.recall_families import families_table

    _show(families_table(), as_json)


def _lengths(prompt: int, continuation: int) -> "Lengths":
    from pythia_profile.labs.recall.recall_settings import Lengths

    return Lengths(prompt=prompt, continuation=continuation)


def _show(table: "pl.DataFrame", as_json: bool, **facts: Any) -> None:
    """Print a table, a line each, as JSON or in words."""
    if as_json:
        print_json({"lines": table.fill_nan(None).to_dicts(), **facts})
        return
    for line in table.iter_rows(named=True):
        typer.echo(
            ", ".join(
                f"{name.replace('_', ' ')} {_number(value)}"
                for name, value in line.items()
                if value not in (None, "")
            )
        )
    for name, value in facts.items():
        typer.echo(f"{name}: {value}")


def _number(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
