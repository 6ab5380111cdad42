"""Figures, sentences and page of the bridge from profiles to bits; nothing is estimated here."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from pythia_profile.figures.style import canvas, for_files, save
from pythia_profile.labs.capacity.capacity_bridge import Bridge, bridge, bridge_facts
from pythia_profile.labs.lab_page import LabPart, write_lab_page
from pythia_profile.store import atomic_write

__all__ = ["bridge_sentences", "run_bridge"]

BRIDGE_FIGURES = {
    "bridge_truth": "Bits of a row by its profile, against the counterfactual truth",
    "bridge_references": "Unintended memorization of the same rows, by reference",
}
"""What each figure shows."""


def run_bridge(study: Path, out: Path, reference: str | None = None) -> tuple[Bridge, Path]:
    """Count, write tables, figures and a page; return what was found and the page.

    Parameters
    ----------
    study, reference : as of `bridge`, whose errors these are.
    out : folder of `bridge.parquet`, `bridge_rows.parquet`, `figures/` and `report.html`.
    """
    found = bridge(study, reference)
    for name, table in (("bridge", found.cells), ("bridge_rows", found.rows)):
        with atomic_write(out / f"{name}.parquet") as file:
            table.write_parquet(file)
    facts = bridge_facts(found)
    figures, said = _draw(found, out / "figures"), bridge_sentences(found, facts)
    page = write_lab_page(
        out / "report.html",
        title=f"{found.size} holds {facts['mean_bits']:.1f} bits a row by its profile, "
        f"{facts['mean_true_bits']:.1f} in truth",
        lead=f"Study {study}, size {found.size}: rows of cohorts that a retraining left out. "
        "Profile: effect in nats per token, times tokens, ÷ ln 2. Unintended memorization "
        "after Morris et al. (2025), arXiv 2505.24832.",
        parts=[LabPart(BRIDGE_FIGURES[name], said[name], path) for name, path in figures.items()],
        tables=[("Bits a row, by cohort and checkpoint.", found.cells)],
        settings=f'study = "{study}"\nlarger = "{found.larger or ""}"\n',
    )
    return found, page


def bridge_sentences(found: Bridge, facts: dict[str, Any]) -> dict[str, str]:
    """Say in a sentence or two what each figure shows, by the figure's name."""
    references = (
        f"With the retrained model as reference, which never read these rows, mem_U correlates "
        f"with the profile's bits at {_r(facts['profile_mem_retrained'])} over cells (mean "
        f"{facts['mean_mem_retrained']:.2f} bits a row), and with the true bits of single rows at "
        f"the last checkpoint at {_r(facts['rows_mem_retrained'])}."
    )
    if found.larger is not None:
        references += (
            f" With {found.larger} as reference, which has read the same rows, it correlates at "
            f"{_r(facts['profile_mem_larger'])} and {_r(facts['rows_mem_larger'])} (mean "
            f"{facts['mean_mem_larger']:.2f}): a reference that knows the rows too hides what the "
            "model holds. The profile needs none."
        )
    return {
        "bridge_truth": f"The profile's bits are within two standard errors of the truth in "
        f"{facts['within']} of {facts['cells']} cells (of the difference's own: "
        f"{facts['within_error']}), mean {facts['mean_bits']:.2f} against "
        f"{facts['mean_true_bits']:.2f} bits a row, correlation "
        f"{_r(facts['profile_true_bits'])}. Cells of a cohort share their rows, so they are not "
        "that many independent checks.",
        "bridge_references": references,
    }


def _r(value: float | None) -> str:
    """Write a correlation.

    Examples
    --------
    >>> _r(0.937), _r(-0.05), _r(None)
    ('.94', '−.05', 'unknown')
    """
    if value is None:
        return "unknown"
    return ("−" if value < 0 else "") + f"{abs(value):.2f}".removeprefix("0")


def _draw(found: Bridge, folder: Path) -> dict[str, Path]:
    drawn: dict[str, Callable[[Axes], None]] = {
        "bridge_truth": lambda ax: _truth(ax, found),
        "bridge_references": lambda ax: _references(ax, found),
    }
    paths = {}
    with for_files():
        for name, draw in drawn.items():
            with canvas(width=5.6, height=3.6) as (ax,):
                draw(ax)
            paths[name] = save(ax.figure, folder, name)[0]  # type: ignore[arg-type]
    return paths


def _truth(ax: Axes, found: Bridge) -> None:
    cells = found.cells
    ax.errorbar(
        cells["true_bits"], cells["bits"], yerr=2 * cells["se"], fmt="o", ms=4, lw=0.8, alpha=0.7
    )
    _diagonal(ax, cells["true_bits"].to_numpy())
    ax.set(xlabel="true bits a row", ylabel="by the profile, ± 2 standard errors")


def _references(ax: Axes, found: Bridge) -> None:
    cells = found.cells
    ax.scatter(cells["bits"], cells["mem_retrained"], s=16, label="against the retrained model")
    if found.larger is not None:
        label = f"against {found.larger}"
        ax.scatter(cells["bits"], cells["mem_larger"], s=16, marker="s", label=label)
    _diagonal(ax, cells["bits"].to_numpy())
    ax.set(xlabel="bits a row by the profile", ylabel="mem_U (bits a row)")
    ax.legend(frameon=False)


def _diagonal(ax: Axes, values: np.ndarray) -> None:
    ends = [min(0.0, float(values.min())), float(values.max())]
    ax.plot(ends, ends, color="0.5", lw=1, ls=":")
