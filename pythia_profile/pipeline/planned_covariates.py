"""What the covariates of a study would take, and what they are worth once that was estimated.

Features need rows of the store that are not in the sample, a reference model is trained here (mini
suite) or is a table of scores that is brought along. What either is worth stands in
`precision.parquet`; before there is one, `power` tells it from a pilot.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from pythia_profile.pipeline.row_covariates import HELD_OUT, other_rows
from pythia_profile.store import read_table
from pythia_profile.study import Study
from pythia_profile.suites.model import Suite
from pythia_profile.tables import COVARIATES, PRECISION

__all__ = ["CovariateCost", "planned_covariates"]

MADE, TO_DO, MISSING, NOT_ASKED = "made", "to do", "missing", "not asked for"
_WIDE = 2**16


@dataclass(frozen=True, slots=True, kw_only=True)
class CovariateCost:
    """One source of covariates.

    Attributes
    ----------
    name : features, or reference.
    state : made, to do, missing or not asked for.
    what : it is made from, in words.
    fetch_bytes, requests : tokens of other rows to read from the hub.
    operations : floating-point operations of a reference that is trained here.
    ratios : smallest and largest standard error of overall effects at equal values of it (of a
        reference: and of features), over those without; None before the stage `precision`.
    """

    name: str
    state: str
    what: str
    fetch_bytes: int = 0
    requests: int = 0
    operations: float = 0.0
    ratios: tuple[float, float] | None = None

    def __str__(self) -> str:
        said = [f"{self.name}: {self.state}, {self.what}"]
        if self.fetch_bytes:
            said.append(f"{self.fetch_bytes / 1e9:.3f} GB in {self.requests:,} requests")
        if self.operations:
            said.append(f"{self.operations:.3g} operations")
        if self.ratios is not None:
            low, high = self.ratios
            said.append(
                f"standard errors {low:.2f} to {high:.2f} of those without, the same precision "
                f"from {low**2:.0%} to {high**2:.0%} of the rows"
            )
        return "; ".join(said)


def planned_covariates(
    folder: Path, study: Study, suite: Suite, rows: int, targets: int
) -> tuple[CovariateCost, ...]:
    """Say how features and reference stand, and what making them takes.

    Parameters
    ----------
    rows, targets : that are sampled, and scored tokens of each.
    """
    path = folder / "covariates.parquet"
    made = read_table(path, COVARIATES, "covariates").columns if path.exists() else []
    known = {name.partition(".")[0] for name in made}
    worth = _ratios(folder)
    features = (
        CovariateCost(name="features", state=MADE, what="from tokens", ratios=worth[0])
        if "features" in known
        else _features(suite)
    )
    if "reference" in known:
        source = f"reference = '{study.reference}'"
        reference = CovariateCost(name="reference", state=MADE, what=source, ratios=worth[1])
    else:
        reference = _reference(folder, study, suite, rows, targets)
    return features, reference


def _features(suite: Suite) -> CovariateCost:
    blocks = other_rows(suite.order.rows, np.empty(0, np.int64))
    count = sum(last - first for first, last, _ in blocks)
    remote = suite.root is None and suite.published
    width = 4 if suite.vocabulary > _WIDE else 2
    return CovariateCost(
        name="features",
        state=TO_DO,
        what=f"counts of the tokens of {count:,} rows that are not in the sample",
        fetch_bytes=count * suite.row_tokens * width if remote else 0,
        requests=len(blocks) if remote else 0,
    )


def _reference(folder: Path, study: Study, suite: Suite, rows: int, targets: int) -> CovariateCost:
    if not study.reference:
        what = "a model that read none of the rows, scored once: `reference` in study.toml"
        return CovariateCost(name="reference", state=NOT_ASKED, what=what)
    if study.reference != HELD_OUT:
        there = (folder / study.reference).is_file()
        return CovariateCost(
            name="reference",
            state=TO_DO if there else MISSING,
            what=f"the table '{study.reference}'" + ("" if there else f" in '{folder}'"),
        )
    size = study.sizes[len(study.sizes) // 2]
    trained = max(0, suite.order.rows - rows)
    # 6 operations a parameter and token to train, 2 to score
    operations = suite.size(size).parameters * targets * (6.0 * trained + 2.0 * rows)
    return CovariateCost(
        name="reference",
        state=TO_DO,
        what=f"{size} trained here on about {trained:,} rows that are not in the sample",
        operations=operations,
    )


def _ratios(folder: Path) -> list[tuple[float, float] | None]:
    """Range of the ratios over sizes: at equal features, and at an equal reference as well."""
    path = folder / "precision.parquet"
    if not path.exists():
        return [None, None]
    lines = read_table(path, PRECISION, "precision").filter(kind="overall")
    found: list[tuple[float, float] | None] = []
    for names in ("features, base", "features, reference, base"):
        ratios = lines.filter(pl.col("covariates") == names)["ratio"].drop_nulls().to_numpy()
        found.append((float(ratios.min()), float(ratios.max())) if len(ratios) else None)
    return found
