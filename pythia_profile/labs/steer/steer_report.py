"""The memory steer from tasks to tables, figures and sentences."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import tomli_w

from pythia_profile.labs.lab_page import LabPart, write_lab_page
from pythia_profile.labs.steer.steer_figures import draw_attacks, draw_suppression
from pythia_profile.labs.steer.steer_memory import (
    MemorySettings,
    MemoryTask,
    halves,
    memory_attacks,
    memory_summary,
    memory_transfers,
)
from pythia_profile.labs.steer.steer_models import load_model
from pythia_profile.labs.steer.steer_page import HAN, listed, marked_texts
from pythia_profile.labs.steer.steer_read import read_direction_tokens, read_texts_by
from pythia_profile.labs.steer.steer_suppress import suppression
from pythia_profile.settings import Settings
from pythia_profile.store import atomic_write

__all__ = [
    "EXPLORATORY",
    "MemoryFound",
    "joined",
    "memory_parts",
    "memory_sentences",
    "memory_tables",
    "memory_title",
    "run_memory",
    "toml_of",
    "write_memory_page",
]

EXPLORATORY = (
    "Exploratory: whether memory is a direction of the output embeddings has not been shown, here "
    "or elsewhere; no direction is an outcome, too."
)
_EXAMPLES = 3

Decode = Callable[[Sequence[int]], str]


@dataclass(frozen=True, slots=True)
class MemoryFound:
    """What the memory steer gave.

    Attributes
    ----------
    summary, attacks, transfers, curves : tables of `steer_memory` and `steer_suppress`; curves have
        `size` and `label` besides.
    tokens : of each size and label, the tokens of the first direction.
    examples : of the last task, texts of the tested half with strength and marks.
    """

    summary: pl.DataFrame
    attacks: pl.DataFrame
    transfers: pl.DataFrame
    curves: pl.DataFrame
    tokens: pl.DataFrame
    examples: list[tuple[float, str]]


def run_memory(
    tasks: Sequence[MemoryTask],
    settings: MemorySettings,
    out: Path,
    decodes: Mapping[str, Decode],
    *,
    workers: int | None = None,
) -> MemoryFound:
    """Train all memory steers, judge them, and write the tables.

    Parameters
    ----------
    out : folder of `units/` and of `attacks.parquet`, `memory.parquet`, `suppression.parquet`,
        `memory_transfers.parquet`.
    decodes : from token ids to text, for each size.
    """
    attacks, steers = memory_attacks(out / "units", tasks, settings, workers=workers)
    curves, tokens, examples = [], [], list[tuple[float, str]]()
    for task in tasks:
        steer, model = steers[task.size, task.label], load_model(task.model)
        split = halves(pl.read_parquet(task.rows), settings)
        named = [pl.lit(task.size).alias("size"), pl.lit(task.label).alias("label"), pl.all()]
        curves.append(suppression(model, steer, split, settings).select(named))
        decode = decodes[task.size]
        tokens.append(read_direction_tokens(model, steer, decode, 1, 10).select(named))
        some = split.tested(inside=True)[:_EXAMPLES]
        examples = read_texts_by(model, steer, some, decode)
    found = MemoryFound(
        memory_summary(attacks),
        attacks,
        memory_transfers(tasks, steers, settings),
        pl.concat(curves),
        pl.concat(tokens),
        examples,
    )
    for name, table in (
        ("attacks", found.attacks),
        ("memory", found.summary),
        ("memory_transfers", found.transfers),
        ("suppression", found.curves),
    ):
        with atomic_write(out / f"{name}.parquet") as file:
            table.write_parquet(file)
    return found


def memory_sentences(found: MemoryFound) -> list[str]:
    """Say of each size and label how well steer and loss attack tell its rows apart."""
    said = []
    for line in found.summary.iter_rows(named=True):
        sentence = (
            f"{line['size']}, {line['label']}: the steer's AUC is {_interval(line, '')} on "
            f"{line['rows']:,} held-out rows, the loss attack's {_interval(line, 'loss_')}"
        )
        if line["null"] is not None:
            inside = line["null_lower"] <= line["auc"] <= line["null_upper"]
            sentence += (
                f"; steers of permuted labels have {line['null']:.3f}, 95 % of them from "
                f"{line['null_lower']:.3f} to {line['null_upper']:.3f}, so this one is "
                + ("not beyond chance" if inside else "beyond chance")
            )
        said.append(sentence + ".")
    return said


def _interval(line: Mapping[str, float], prefix: str) -> str:
    value, lower, upper = (line[f"{prefix}{name}"] for name in ("auc", "lower", "upper"))
    return f"{value:.3f} ({lower:.3f} to {upper:.3f})"


def memory_parts(found: MemoryFound, folder: Path) -> list[LabPart]:
    """Sections of a page: the attacks, what suppression costs, marked texts."""
    parts = [
        LabPart(
            "Does a steer tell rows that were read, or memorized, from others?",
            f"{EXPLORATORY} Rows read or planted were drawn at random; memorized rows were not, so "
            "a steer may tell them by what they are about.",
            draw_attacks(found.summary, folder),
            listed(memory_sentences(found)),
        ),
        LabPart(
            "What suppressing the direction costs",
            "Each row's first half is given and the rest follows greedily; dashed is a random "
            "steer of the same singular values, which pushes as hard in no particular direction.",
            draw_suppression(found.curves, folder),
            listed(_suppression_sentences(found.curves)),
        ),
        LabPart(
            "Texts marked by the memory steer",
            "Held-out rows with the label, each with the strength at which it is most likely; "
            "underlined is evidence for memory, dashed against it.",
            markup=marked_texts(found.examples),
        ),
    ]
    if len(found.transfers):
        pairs = [
            f"{line['source']} to {line['target']}, {line['label']}: {_interval(line, '')}"
            for line in found.transfers.iter_rows(named=True)
        ]
        said = "AUC of a steer moved from one size to another, on rows that trained it in neither."
        title = "Does the direction move to another size?"
        parts.insert(1, LabPart(title, said, markup=listed(pairs)))
    return parts


def joined(tokens: pl.DataFrame) -> pl.DataFrame:
    """Write lists of tokens as words."""
    return tokens.with_columns(pl.col("raised", "lowered").list.join(" "))


def memory_tables(found: MemoryFound) -> list[tuple[str, pl.DataFrame]]:
    """Tables of a page, with what they show."""
    summary = found.summary.select(
        *("size", "label", "rows", "auc", "lower", "upper", "loss_auc", "loss_lower"),
        *("loss_upper", "gain", "gain_lower", "gain_upper", "null", "null_lower", "null_upper"),
        "p_value",
    )
    listed = [
        ("Memory steers beside the loss attack and permuted labels", summary),
        ("Memory steers moved between sizes", found.transfers),
        ("Tokens that the memory steers raise and lower most", joined(found.tokens)),
    ]
    return [(caption, table) for caption, table in listed if len(table)]


def memory_title(found: MemoryFound) -> str:
    """Name the AUC of every size and label."""
    said = [
        f"{line['size']} {line['label']} {line['auc']:.2f}"
        for line in found.summary.iter_rows(named=True)
    ]
    return f"Memory as a direction: held-out AUC {', '.join(said)}"


def write_memory_page(found: MemoryFound, settings: MemorySettings, out: Path) -> Path:
    """Write the page of a study's memory steers; return where."""
    return write_lab_page(
        out / "report.html",
        title=memory_title(found),
        lead=f"Steers trained on half of the rows, judged on the other half. {HAN}",
        parts=memory_parts(found, out / "figures"),
        tables=memory_tables(found),
        settings=toml_of(settings),
    )


def toml_of(settings: Settings) -> str:
    """Write settings as TOML."""
    return tomli_w.dumps(settings.model_dump(mode="json", exclude_none=True))


def _suppression_sentences(curves: pl.DataFrame) -> list[str]:
    """Of each model, at the strength nearest to −1: tokens given back and perplexity."""
    said = []
    for (size, label), part in curves.group_by("size", "label", maintain_order=True):
        below = part.filter(pl.col("value") < 0)["value"].sort()
        if not len(below):
            continue
        at = min(map(float, below), key=lambda value: abs(value + 1))
        numbers = {
            (line["steer"], line["value"], line["quantity"]): line["estimate"]
            for line in part.iter_rows(named=True)
        }
        own = numbers.get(("memory", 0.0, "matched"))
        before = f" from {own:.0%}" if own is not None else ""
        said.append(
            f"{size}, {label}: at ε = {at:g} the share of held-out rows' tokens given back goes"
            f"{before} to {numbers['memory', at, 'matched']:.0%} (a random steer of the same "
            f"singular values: {numbers['random', at, 'matched']:.0%}), with a perplexity of other "
            f"rows of {numbers['memory', at, 'perplexity']:.1f} "
            f"({numbers['random', at, 'perplexity']:.1f})."
        )
    return said
