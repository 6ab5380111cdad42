"""One page on the capacity experiment: a sentence for each figure, the runs, what it rests on."""

from pathlib import Path

import polars as pl
import tomli_w

from pythia_profile.labs.capacity.capacity_figures import FIGURES, draw_capacity
from pythia_profile.labs.capacity.capacity_runs import capacity_tables
from pythia_profile.labs.capacity.capacity_settings import CapacitySettings
from pythia_profile.labs.capacity.capacity_summary import capacities, expectations, sentences
from pythia_profile.labs.lab_page import LabPart, write_lab_page
from pythia_profile.store import atomic_write, write_text

__all__ = ["run_capacity"]

_SHOWN = (
    *("size", "parameters", "dtype", "seed", "rows", "steps", "epochs", "data", "bound", "strict"),
    *("paper", "mixture", "test_bits", "f1", "auc", "tpr", "late_gain", "converged"),
)
_EXPECTED = "What is expected of such runs, and of all models the one nearest to a limit."
_CAPACITIES = (
    "Capacities: bits, mean over seeds with its 95 % interval; peak is data bits ÷ capacity where "
    "rows that were not read cost most."
)
_RUNS = (
    "Runs: bits by strict accounting, by the paper's (which credits the first token), and by the "
    "normalized mixture code; bound is the most that a normalized code can hold of so many "
    "different rows."
)
_NOT_CONVERGED = (
    "Not converged. At least one model was still learning when its training ended; its capacity is "
    "a lower bound."
)


def run_capacity(
    settings: CapacitySettings, out: Path, *, device: str = "cpu", workers: int | None = None
) -> tuple[pl.DataFrame, Path]:
    """Train what is missing, write tables, figures and a page; return the capacities and it.

    Parameters
    ----------
    out : folder of `runs/`, `capacity.parquet`, `samples.parquet`, `figures/` and `report.html`.
    device, workers : as of `capacity_tables`.

    Raises
    ------
    RefusedError
        The rows do not fit into memory.
    """
    runs, samples = capacity_tables(out / "runs", settings, device=device, workers=workers)
    for name, table in (("capacity", runs), ("samples", samples)):
        with atomic_write(out / f"{name}.parquet") as file:
            table.write_parquet(file)
    write_text(_toml(settings), out / "capacity.toml")
    found = capacities(runs)
    figures = draw_capacity(runs, found, out / "figures")
    said = sentences(runs, found)
    write_lab_page(
        out / "report.html",
        title=_title(found),
        lead=f"Models trained on uniform tokens: V = {settings.vocabulary}, S = {settings.tokens}. "
        "After Morris et al. (2025), How much do language models memorize?, arXiv 2505.24832.",
        parts=[LabPart(FIGURES[name], said[name], path) for name, path in figures.items()],
        tables=[
            (_EXPECTED, expectations(runs, found)),
            (_CAPACITIES, found),
            (_RUNS, runs.select(_SHOWN)),
        ],
        settings=_toml(settings),
        warning="" if found["converged"].all() else _NOT_CONVERGED,
    )
    return found, out / "report.html"


def _title(found: pl.DataFrame) -> str:
    return ", ".join(
        f"{line['size']} {line['dtype']} holds {line['bits_per_parameter']:.2f} bits a parameter"
        + ("" if line["converged"] else " so far")
        for line in found.iter_rows(named=True)
    )


def _toml(settings: CapacitySettings) -> str:
    return tomli_w.dumps(settings.model_dump(mode="json", exclude_none=True))
