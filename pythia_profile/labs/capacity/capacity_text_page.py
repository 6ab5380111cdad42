"""Figures, sentences and page of the text part; nothing is estimated here."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import tomli_w
from matplotlib.axes import Axes

from pythia_profile.figures.style import canvas, for_files, save
from pythia_profile.labs.capacity.capacity_settings import TextSettings
from pythia_profile.labs.capacity.capacity_text import REFERENCES, TextTables, text_tables
from pythia_profile.labs.lab_page import LabPart, write_lab_page
from pythia_profile.store import atomic_write, write_text

__all__ = ["run_text"]

TEXT_FIGURES = {
    "held": "Bits held beyond a reference against the number of rows",
    "rarity": "Bits of a row against how rare its tokens are",
    "text_extraction": "Next tokens given back, rows read and not read",
    "text_loss": "Loss of rows read and not read",
}
"""What each figure shows."""


def run_text(
    settings: TextSettings, out: Path, *, device: str = "cpu", workers: int | None = None
) -> tuple[TextTables, Path]:
    """Train what is missing, write tables, figures and a page; return the tables and the page.

    Parameters
    ----------
    out : folder of `runs/`, `text.parquet`, `text_models.parquet`, `text_rows.parquet`, `figures/`,
        `text.toml` and `report.html`.
    device, workers : as of `text_tables`.

    Raises
    ------
    CapacityError
        The standard library holds too little text.
    """
    found = text_tables(out / "runs", settings, device=device, workers=workers)
    tables = {"text": found.text, "text_models": found.models, "text_rows": found.rows}
    for name, table in tables.items():
        with atomic_write(out / f"{name}.parquet") as file:
            table.write_parquet(file)
    toml = tomli_w.dumps(settings.model_dump(mode="json"))
    write_text(toml, out / "text.toml")
    figures, said = _draw(settings, found, out / "figures"), text_sentences(settings, found)
    page = write_lab_page(
        out / "report.html",
        title=_title(found.text),
        lead=f"Models of Python's own sources: V = {settings.vocabulary}, S = {settings.tokens}, "
        f"{settings.steps:,} steps. Both references have read {settings.superset:,} rows, the "
        "targets' among them. After Morris et al. (2025), How much do language models memorize?, "
        "arXiv 2505.24832, section 4.",
        parts=[LabPart(TEXT_FIGURES[name], said[name], path) for name, path in figures.items()],
        tables=[
            ("Bits beyond each reference, and their rank correlation with TF-IDF.", found.text),
            ("Models.", found.models),
        ],
        settings=toml,
    )
    return found, page


def text_sentences(settings: TextSettings, found: TextTables) -> dict[str, str]:
    """Say in a sentence or two what each figure shows, by the figure's name."""
    held, rarity = [], []
    for name in REFERENCES:
        lines = found.text.filter(pl.col("reference") == name).sort("rows")
        most = lines.sort("bits")[-1]
        ends = [f"{lines['bits_per_row'][end]:,.1f}" for end in (0, -1)]
        held.append(
            f"Beyond the {_model(name)} the target holds most of {most['rows'][0]:,} rows, "
            f"{most['bits'][0]:,.0f} bits; a row from {ends[0]} bits of {lines['rows'][0]:,} to "
            f"{ends[1]} of {lines['rows'][-1]:,}."
        )
        related = lines.filter(pl.col("tf_idf").is_not_null())
        if len(related):
            last = related[-1]
            rarity.append(
                f"Beyond the {_model(name)}, of {last['rows'][0]:,} rows the "
                f"{last['rows_above_0'][0]:,} above 0 bits correlate with TF-IDF at "
                f"{last['tf_idf'][0]:.2f} (ranks); the tenth with the most bits has mean TF-IDF "
                f"{last['tf_idf_most'][0]:.2f}, all rows {last['tf_idf_all'][0]:.2f}."
            )
    targets = found.models.filter(pl.col("role") == "target").sort("rows")
    shares = []
    for prefix in settings.prefixes:
        train, test = (targets[f"extracted_{name}_{prefix}"] for name in ("train", "test"))
        shares.append(
            f"with {prefix} tokens {train[0]:.0%} and {test[0]:.0%} of {targets['rows'][0]:,}, "
            f"{train[-1]:.0%} and {test[-1]:.0%} of {targets['rows'][-1]:,}"
        )
    gaps = targets["test_bits"] - targets["train_bits"]
    return {
        "held": " ".join(held),
        "rarity": " ".join(rarity) or "Too few rows hold more than 0 bits to tell.",
        "text_extraction": f"Rows whose next {settings.following} tokens follow greedily, read and "
        f"not read: {'; '.join(shares)} rows.",
        "text_loss": f"Rows that were not read cost {gaps[0]:.2f} bits a token more than those "
        f"that were, of {targets['rows'][0]:,} rows, and {gaps[-1]:.2f} more of "
        f"{targets['rows'][-1]:,}.",
    }


def _title(text: pl.DataFrame) -> str:
    most = text.filter(pl.col("reference") == REFERENCES[0]).sort("bits")[-1]
    return (
        f"Of {most['rows'][0]:,} rows of text the model holds {most['bits'][0]:,.0f} bits that one "
        "of its size with more text does not"
    )


def _model(reference: str) -> str:
    return f"{reference} model" if reference == "larger" else f"model of the {reference}"


def _draw(settings: TextSettings, found: TextTables, folder: Path) -> dict[str, Path]:
    drawn: dict[str, Callable[[Axes], None]] = {
        "held": lambda ax: _held(ax, found.text),
        "rarity": lambda ax: _rarity(ax, found.rows),
        "text_extraction": lambda ax: _extraction(ax, found.models, settings),
        "text_loss": lambda ax: _loss(ax, found.models),
    }
    paths = {}
    with for_files():
        for name, draw in drawn.items():
            with canvas(width=5.6, height=3.6) as (ax,):
                draw(ax)
            paths[name] = save(ax.figure, folder, name)[0]  # type: ignore[arg-type]
    return paths


def _held(ax: Axes, text: pl.DataFrame) -> None:
    for name, marker in zip(REFERENCES, "os", strict=True):
        lines = text.filter(pl.col("reference") == name)
        ax.plot(lines["rows"], lines["bits"], marker=marker, label=f"beyond the {_model(name)}")
    ax.set(xscale="log", xlabel="rows", ylabel="memorized (bits, all rows)")
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False)


def _rarity(ax: Axes, rows: pl.DataFrame) -> None:
    lines = rows.filter((pl.col("rows") == pl.col("rows").max()) & (pl.col("bits") > 0))
    for name, marker in zip(REFERENCES, "os", strict=True):
        part = lines.filter(pl.col("reference") == name)
        ax.scatter(part["tf_idf"], part["bits"], s=9, alpha=0.5, marker=marker, label=_model(name))
    ax.set(xlabel="TF-IDF of a row (nats)", ylabel="memorized (bits, rows above 0)")
    ax.legend(frameon=False)


def _extraction(ax: Axes, models: pl.DataFrame, settings: TextSettings) -> None:
    targets = models.filter(pl.col("role") == "target").sort("rows")
    shades = np.linspace(0.0, 0.6, len(settings.prefixes))
    for prefix, shade in zip(settings.prefixes, shades, strict=True):
        for name, dash in (("train", "-"), ("test", ":")):
            ax.plot(
                targets["rows"],
                targets[f"extracted_{name}_{prefix}"],
                dash,
                marker="o",
                color=str(shade),
                label=f"{prefix} tokens" if name == "train" else None,
            )
    ax.set(xscale="log", xlabel="rows", ylabel="given back, dotted: not read", ylim=(-0.03, 1.05))
    ax.legend(frameon=False)


def _loss(ax: Axes, models: pl.DataFrame) -> None:
    targets = models.filter(pl.col("role") == "target").sort("rows")
    ax.plot(targets["rows"], targets["train_bits"], marker="o", label="rows read")
    ax.plot(targets["rows"], targets["test_bits"], ":", marker="o", label="not read")
    ax.set(xscale="log", xlabel="rows", ylabel="loss (bits per token)")
    ax.legend(frameon=False)
