"""Verbs of the lab `law`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pythia_profile.cli.app import verb, verbs
from pythia_profile.cli.options import AsJson, Workers, numbers_of, parsed_settings, print_json

if TYPE_CHECKING:
    from pythia_profile.labs.law.law_settings import LawSettings

app = verbs("How what adapters learn by heart grows with rank and length.")

SECTION = "Verbs"
Out = Annotated[Path, typer.Option(help="Folder of adapters, tables, figures and the report.")]
_DEFAULT = "its default"


@verb(
    SECTION,
    "lab law demo",
    "lab law demo --out small --seed 1 --json",
    group=app,
)
def demo(
    out: Out = Path("law-demo"),
    seed: Annotated[int, typer.Option(min=0, help="Of documents and adapters.")] = 0,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Train 75 adapters of one small model on random documents, and say what they hold.

    Five ranks, three lengths, four methods. The same command goes on where it was stopped.
    """
    from pythia_profile.labs.law.law_settings import demo_settings

    _train(demo_settings(seed), out, "cpu", workers, as_json)


@verb(
    SECTION,
    "lab law train --ranks 1,2,4,8 --answer-tokens 100,200,400 --out my-law",
    "lab law train --suite pythia-deduped --size 160m --checkpoint 143000 --device cuda",
    "lab law train --file qa.jsonl --methods sft,ot --set layers=[1] --set modules=all",
    "lab law train my-law/law.toml --set updates=600",
    group=app,
)
def train(
    config: Annotated[
        Path | None, typer.Argument(metavar="CONFIG.toml", help="Settings to start from.")
    ] = None,
    out: Out = Path("law"),
    suite: Annotated[
        str, typer.Option(help="Suite, its folder, or a study.", show_default="mini")
    ] = "",
    size: Annotated[str, typer.Option(help="Of the suite.", show_default="s")] = "",
    checkpoint: Annotated[
        int | None, typer.Option(help="Frozen weights.", show_default="the last")
    ] = None,
    data: Annotated[
        str, typer.Option(help="phone_book, documents or file.", show_default="phone_book")
    ] = "",
    file: Annotated[str, typer.Option(metavar="QA.jsonl", help="Questions and answers.")] = "",
    tokenizer: Annotated[
        str, typer.Option(help="tokenizer.json.", show_default="the suite's")
    ] = "",
    ranks: Annotated[str, typer.Option(help="Adapter ranks.", show_default=_DEFAULT)] = "",
    answer_tokens: Annotated[
        str, typer.Option(help="Answer tokens to learn.", show_default=_DEFAULT)
    ] = "",
    methods: Annotated[
        str, typer.Option(help="Of sft, ot, sw, sw_phone_book.", show_default=_DEFAULT)
    ] = "",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any other setting.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "cpu",
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Train adapters of every rank on answers of every length by every method.

    The weights of the checkpoint stay as they are. Writes `law.toml`, which names every setting.
    """
    from pythia_profile.labs.law.law_settings import LawSettings
    from pythia_profile.settings import checked, read_toml

    given: dict[str, Any] = {"suite": suite, "size": size, "data": data, "file": file}
    given |= {"checkpoint": checkpoint, "tokenizer": tokenizer}
    given |= {"ranks": numbers_of(ranks, "--ranks", int) if ranks else None}
    given |= {"methods": methods.split(",") if methods else None}
    if answer_tokens:
        given["answer_tokens"] = numbers_of(answer_tokens, "--answer-tokens", int)
    if file and not data:
        given["data"] = "file"
    content = read_toml(config) if config else {}
    content |= {name: value for name, value in given.items() if value not in ("", None)}
    content |= parsed_settings(settings or [], "--set")
    where = f"'{config}'" if config else "lab law train"
    _train(checked(LawSettings, content, where), out, device, workers, as_json)


def _train(
    settings: "LawSettings", out: Path, device: str, workers: int | None, as_json: bool
) -> None:
    from pythia_profile.execute.resources import chosen_device
    from pythia_profile.labs.law.law_page import run_law

    found, page = run_law(settings, out, device=chosen_device(device), workers=workers)
    if as_json:
        print_json({**found.facts, "sentences": found.sentences, "report": str(page)})
        return
    for sentence in found.sentences.values():
        typer.echo(sentence)
    typer.echo(f"report: {page}")


@verb(
    SECTION,
    "lab law threshold law-demo/tokens.parquet",
    "lab law threshold tokens.parquet --json",
    group=app,
)
def threshold(
    table: Annotated[Path, typer.Argument(help="Tokens: columns p and greedy (.parquet, .csv).")],
    as_json: AsJson = False,
) -> None:
    """Count tokens of p > 1/2 that are not the greedy choice.

    There are none where p and the choice are of one pass in float32. Exit code 1 where there are.
    """
    from dataclasses import asdict

    from pythia_profile.labs.law.law_fit import given
    from pythia_profile.labs.law.law_summary import counted, read_tokens

    with given(table):
        found = counted(read_tokens(table))
    if as_json:
        print_json(asdict(found))
    else:
        typer.echo(
            f"{found.tokens:,} tokens, {found.above:,} of them above 1/2, {found.violations:,} of "
            f"these not the greedy choice; {found.correct_below:.1%} of the greedy-correct tokens "
            "are at or below 1/2"
        )
    if found.violations:
        raise typer.Exit(1)


@verb(
    SECTION,
    "lab law fit runs.parquet",
    "lab law fit runs.csv --method sft --saturated 0.2 --json",
    group=app,
)
def fit(
    table: Annotated[
        Path,
        typer.Argument(help="Runs: columns rank, answer_tokens, loss, base_loss (.parquet, .csv)."),
    ],
    method: Annotated[
        str | None, typer.Option(help="Method to fit.", show_default="the only one")
    ] = None,
    saturated: Annotated[
        float, typer.Option(help="Loss below which a run is left out, nats per token.")
    ] = 0.1,
    draws: Annotated[int, typer.Option(help="Bootstrap draws.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Fit four forms of the law to a table of runs.

    Refuses exponents where the profile likelihood is flat. Saturated runs are left out.
    """
    from dataclasses import asdict

    from pythia_profile.labs.law.law_fit import Fitting, fit_law, given, read_runs

    settings = Fitting(saturated=saturated, draws=draws, seed=seed)
    with given(table):
        found = fit_law(read_runs(table), settings, method=method)
    if as_json:
        exponents = asdict(found.identified)
        if found.identified.flat:
            exponents |= {"alpha": None, "beta": None}
        print_json(
            {
                "cells": len(found.cells.gain),
                "dropped": found.dropped,
                "forms": found.table().to_dicts(),
                "exponents": exponents,
                "bootstrap": found.intervals,
                "sentences": found.sentences(),
            }
        )
        return
    for line in found.table().iter_rows(named=True):
        said = [
            f"{name} {line[name]:.4g}"
            for name in ("c", "C", "alpha", "beta", "b")
            if line[name] is not None
        ]
        typer.echo(
            f"{line['form']:<13} R² {line['r2']:.4f}  AICc +{line['aicc_above_best']:.1f}  "
            f"rank left out: {line['left_out_rmse']:.4f} nats  {'  '.join(said)}"
        )
    for sentence in found.sentences():
        typer.echo(sentence)
