"""One page on the demonstration: a sentence for each figure, the tables, what it rests on."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import tomli_w

from pythia_profile.labs.lab_page import LabPart, write_lab_page
from pythia_profile.labs.recall.recall_demo import RecallTables, recall_tables
from pythia_profile.labs.recall.recall_figures import FIGURES, draw_recall
from pythia_profile.labs.recall.recall_fits import fit_sentences
from pythia_profile.labs.recall.recall_settings import RecallSettings
from pythia_profile.store import atomic_write, write_text

__all__ = ["run_recall", "sentences"]

_LEAD = (
    "Models trained on a bigram language in which {sequences} sequences occur at each of the "
    "frequencies {frequencies}; the first {prompt} tokens are the prompt, the next {count} are to "
    "be given back by greedy decoding. After Chen, Han and Miyao (2026), arXiv 2603.21658."
)


def run_recall(
    settings: RecallSettings, out: Path, *, workers: int | None = None
) -> tuple[RecallTables, Path]:
    """Train and score what is missing, write tables, figures and a page; return both.

    Parameters
    ----------
    out : folder of `models/`, `scores/`, a parquet file a table, `figures/`, `report.html`.
    workers : processes at a time; no number depends on it.
    """
    tables = recall_tables(settings, out, workers=workers)
    for name, frame in tables.frames().items():
        with atomic_write(out / f"{name}.parquet") as file:
            frame.write_parquet(file)
    toml = tomli_w.dumps(settings.model_dump(mode="json", exclude_none=True))
    write_text(toml, out / "recall.toml")
    figures, said = draw_recall(tables, out / "figures"), sentences(tables)
    corpus, lengths = settings.corpus, settings.lengths
    page = write_lab_page(
        out / "report.html",
        title=_title(tables.sizes),
        lead=_LEAD.format(
            sequences=corpus.sequences,
            frequencies=", ".join(map(str, corpus.frequencies)),
            prompt=lengths.prompt,
            count=lengths.continuation,
        ),
        parts=[LabPart(FIGURES[name], said[name], path) for name, path in figures.items()],
        tables=[
            ("Sizes, at the last checkpoint", tables.sizes),
            ("Rates by frequency", tables.rates),
            ("From size to size", tables.between),
            ("What the sizes' memorized sets share", tables.shared),
            ("Extraction by sampling", tables.sampled),
            *([("Rate against size", tables.fits)] if len(tables.fits) else []),
        ],
        settings=toml,
    )
    return tables, page


def _title(sizes: pl.DataFrame) -> str:
    known = sizes.drop_nulls("threshold")
    if known.is_empty():
        return "No size gives planted sequences back"
    return "Given back from " + ", ".join(
        f"{line['threshold']} copies on ({line['size']})" for line in known.iter_rows(named=True)
    )


def sentences(tables: RecallTables) -> dict[str, str]:
    """Say what each figure shows, with its numbers."""
    return {
        "frequency": _on_frequency(tables),
        "size": " ".join(fit_sentences(tables.fits))
        if len(tables.fits)
        else "Too few sizes for a law.",
        "steps": _on_steps(tables.steps),
        "suffixes": _on_suffixes(tables.suffixes["compressibility"].to_numpy()),
        "sampling": _on_sampling(tables.sampled),
    }


def _on_frequency(tables: RecallTables) -> str:
    sizes, planted = tables.sizes, int(tables.sizes["rows"][0])
    none = sizes.filter(pl.col("threshold").is_null())["size"].to_list()
    thresholds = ", ".join(
        f"{line['threshold']} ({line['size']})"
        for line in sizes.drop_nulls("threshold").iter_rows(named=True)
    )
    return (
        "Copies from which on half of the sequences are given back: "
        f"{thresholds or 'more than there are'}"
        f"{'; more than there are for ' + ', '.join(none) if none and thresholds else ''}. Of "
        f"sequences that were never read, {sizes['held_out'].to_numpy().max():.1%} at most are. By "
        f"exact count, {tables.counted} of {planted} planted sequences occur as often as they were "
        "planted."
    )


def _on_steps(steps: pl.DataFrame) -> str:
    forgotten, kept = int(steps["forgotten"].sum()), int(steps["kept"].sum())
    return (
        f"Of {kept + forgotten} times that a checkpoint gave a sequence back, the next had "
        f"forgotten it {forgotten} times."
    )


def _on_suffixes(needed: npt.NDArray[np.float64]) -> str:
    if not len(needed):
        return "No sequence is memorized."
    return (
        f"The median memorized sequence needs {np.median(needed):.2f} of its prompt; "
        f"{(needed <= 0.5).mean():.0%} need half of it or less."
    )


def _on_sampling(sampled: pl.DataFrame) -> str:
    listed = ", ".join(
        f"{line['closed_form']:.1f} ± {line['closed_form_sd']:.1f} ({line['size']}: "
        f"{line['sampled']} drawn)"
        for line in sampled.iter_rows(named=True)
    )
    return (
        f"With {int(sampled['draws'][0])} samples each, the closed form expects of "
        f"{int(sampled['sequences'][0])} sequences {listed}."
    )
