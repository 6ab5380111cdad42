"""One page on a grid of adapters: a sentence for each figure, tables, settings."""

from pathlib import Path

import polars as pl

from pythia_profile.labs.lab_page import LabPart, write_lab_page
from pythia_profile.labs.law.law_figures import FIGURES, draw_law
from pythia_profile.labs.law.law_grid import train_grid
from pythia_profile.labs.law.law_settings import LawSettings
from pythia_profile.labs.law.law_summary import Found, summary

__all__ = ["run_law"]

_SHOWN = (
    *("method", "budget", "rank", "answer_tokens", "answers", "seed", "made", "tokens_read"),
    *("tokens_trained", "base_loss", "loss", "gain", "accuracy", "written_accuracy", "exact"),
    *("correct_below", "violations"),
)
_RUNS = (
    "Adapters: updates made, answer tokens read, the sum of their weights; nats per answer token; "
    "shares of tokens right under teacher forcing and when written alone, and of answers that are "
    "written exactly; the share of greedy-correct tokens at or below 1/2."
)
_COMPARISON = (
    "Methods in boundary cells, where plain training gets between .5 and .995 of the tokens right; "
    "decoupled: more tokens right at a higher mean loss."
)
_SENTENCES = {
    "law": ("law", "monotone"),
    "decoupling": ("methods",),
    "threshold": ("threshold",),
    "methods": ("methods",),
}


def run_law(
    settings: LawSettings, out: Path, *, device: str = "cpu", workers: int | None = None
) -> tuple[Found, Path]:
    """Train what is missing, write tables, figures and a page; return what was found, and it.

    Parameters
    ----------
    out : folder of `adapters/`, `runs.parquet`, `tokens.parquet`, `figures/`, `report.html`.
    device, workers : as of `train_grid`, which also says what is refused.
    """
    runs, tokens = train_grid(settings, out, device=device, workers=workers)
    found = summary(runs, tokens)
    figures = draw_law(runs, tokens, found, out / "figures")
    parts = [
        LabPart(FIGURES[name], " ".join(found.sentences[key] for key in _SENTENCES[name]), path)
        for name, path in figures.items()
    ]
    tables: list[tuple[str, pl.DataFrame]] = []
    if found.fit is not None:
        tables.append(("Forms of the law, fitted to plain training.", found.fit.table()))
    tables += [(_COMPARISON, found.comparison), (_RUNS, runs.select(_SHOWN))]
    page = write_lab_page(
        out / "report.html",
        title=f"{runs['base'][0]}: what adapters learn by heart",
        lead=f"{found.facts['adapters']} LoRA adapters beside frozen weights, trained on answers "
        "only. After Xu et al. (2026), How LoRA Remembers?, arXiv 2605.30260.",
        parts=parts,
        tables=tables,
        settings=(out / "law.toml").read_text(encoding="utf-8"),
        warning="" if found.facts["base_unchanged"] else "The frozen weights changed.",
    )
    return found, page
