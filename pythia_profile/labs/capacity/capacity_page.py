"""One page on the capacity experiment: a sentence for each figure, the runs, what it rests on."""

import base64
from collections.abc import Mapping
from pathlib import Path

import polars as pl
import tomli_w
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape

from pythia_profile.labs.capacity.capacity_figures import FIGURES, draw_capacity
from pythia_profile.labs.capacity.capacity_runs import capacity_tables
from pythia_profile.labs.capacity.capacity_settings import CapacitySettings
from pythia_profile.labs.capacity.capacity_summary import capacities, sentences
from pythia_profile.store import atomic_write, write_text

__all__ = ["run_capacity"]

_SHOWN = (
    *("size", "parameters", "dtype", "seed", "rows", "steps", "epochs", "data", "bound", "strict"),
    *("paper", "mixture", "test_bits", "f1", "auc", "tpr", "late_gain", "converged"),
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
    page = _page(settings, runs, found, draw_capacity(runs, found, out / "figures"))
    write_text(page, out / "report.html")
    return found, out / "report.html"


def _page(
    settings: CapacitySettings,
    runs: pl.DataFrame,
    found: pl.DataFrame,
    figures: Mapping[str, Path],
) -> str:
    environment = Environment(
        loader=ChoiceLoader(
            [
                PackageLoader("pythia_profile.labs.capacity"),
                PackageLoader("pythia_profile.report"),  # for the look
            ]
        ),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    said = sentences(runs, found)
    parts = [
        (FIGURES[name], said[name], base64.b64encode(path.read_bytes()).decode())
        for name, path in figures.items()
    ]
    return environment.get_template("capacity.html").render(
        settings=settings,
        parts=parts,
        found=found.to_dicts(),
        columns=_SHOWN,
        runs=runs.select(_SHOWN).rows(),
        toml=_toml(settings),
    )


def _toml(settings: CapacitySettings) -> str:
    return tomli_w.dumps(settings.model_dump(mode="json", exclude_none=True))
