"""A study beside other runs that read its rows in other orders: its own stage, run when asked for.

In: a study that has been scored, and other studies of the same rows; on the mini suite, forks of
the study's own run. Out: `crossover.parquet` and `crossover_means.parquet` in the study's folder.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pythia_profile.errors import StudyError
from pythia_profile.pipeline.inputs import read_inputs, ready_suite
from pythia_profile.pipeline.kept import study_estimates
from pythia_profile.profiles.estimates import Estimates
from pythia_profile.profiles.two_orders import Other, TwoOrders, crossover
from pythia_profile.store import read_table, write_table
from pythia_profile.study import Study, open_study
from pythia_profile.tables import CROSSOVER, CROSSOVER_MEANS, ROWS

__all__ = ["ForkPlan", "crossover_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkPlan:
    """Which forks of the mini suite are trained where there are no other studies.

    Attributes
    ----------
    size : that is forked; the study's first by default.
    at : checkpoint at which forks begin; a quarter of the run by default.
    forks : how many, each with an order of its own.
    """

    size: str | None = None
    at: int | None = None
    forks: int = 1


def crossover_of(
    folder: Path,
    others: Sequence[Path] = (),
    plan: ForkPlan | None = None,
    *,
    workers: int | None = None,
) -> TwoOrders:
    """Set a study's effects beside those against other orders; keep both tables in its folder.

    Parameters
    ----------
    others : folders of studies whose `rows.parquet` names the same rows by the same `row_id`, with
        the steps of their own run; forks are trained where there are none.

    Raises
    ------
    StudyError
        There is no other study, and the suite cannot be forked here.
    """
    study, chosen = open_study(folder), plan or ForkPlan()
    estimates = study_estimates(folder, study)
    if others:
        pairs = [read_inputs(path, open_study(path)) for path in others]
    else:
        size = chosen.size or study.sizes[0]
        pairs = _forks(folder, study, size, chosen, workers)
        runs = tuple(one for one in estimates.runs if one.panel.run[1] == size)
        estimates = Estimates(runs, estimates.settings)
    found = crossover(estimates, others=pairs)
    write_table(found.cells, folder / "crossover.parquet", CROSSOVER)
    write_table(found.means, folder / "crossover_means.parquet", CROSSOVER_MEANS)
    return found


def _forks(
    folder: Path, study: Study, size: str, plan: ForkPlan, workers: int | None
) -> list[Other]:
    from pythia_profile.mini.forks import forked

    suite = ready_suite(folder, study)
    if suite.root is None or not (suite.root / "config.json").is_file():
        raise StudyError(
            f"crossover: runs of suite '{suite.name}' cannot be forked here; name the folder of a "
            "study whose run read the same rows in another order"
        )
    return forked(
        suite,
        size,
        read_table(folder / "rows.parquet", ROWS, "sample"),
        folder=folder / "forks",
        at=plan.at,
        seeds=range(1, plan.forks + 1),
        workers=workers,
    )
