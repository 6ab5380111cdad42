"""All findings of a study, from one estimate of each of its runs.

In: the tables `ROWS` and `SCORES`, or what `estimate` made of them. Out: `Findings`, five tables
and the sentences that they amount to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from pythia_profile.did.settings import DEFAULT, Estimation
from pythia_profile.errors import TableError
from pythia_profile.findings.bits import bits
from pythia_profile.findings.decay import decay
from pythia_profile.findings.large_from_small import large_from_small
from pythia_profile.findings.learning_rate import claim, slopes
from pythia_profile.findings.second_readings import exposure
from pythia_profile.findings.seeds import between_seeds
from pythia_profile.findings.statements import sentences
from pythia_profile.findings.summaries import CohortTables, grouped
from pythia_profile.profiles.estimates import Estimates, Frame, estimates_of
from pythia_profile.suites.model import Suite
from pythia_profile.suites.registry import facts_of
from pythia_profile.tables import BITS, DECAY, FINDINGS, FOUND, conform

__all__ = ["Findings", "study_findings"]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Findings:
    """What the profiles of a study say; `print` it for the sentences.

    Attributes
    ----------
    findings, prediction, prediction_skill, decay, bits : the tables of these names.
    """

    findings: pl.DataFrame
    prediction: pl.DataFrame
    prediction_skill: pl.DataFrame
    decay: pl.DataFrame
    bits: pl.DataFrame

    @property
    def tables(self) -> dict[str, pl.DataFrame]:
        """The tables by name."""
        return {table.name: getattr(self, table.name) for table in FOUND}

    @property
    def sentences(self) -> list[str]:
        """What the tables say."""
        return sentences(self.tables)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} ({len(table):,} lines)" for name, table in self.tables.items())
        return "\n".join(["Findings:", *(f"  {one}" for one in self.sentences), f"tables: {sizes}"])


def study_findings(
    rows: Frame | Estimates | Sequence[Estimates],
    scores: Frame | None = None,
    settings: Estimation = DEFAULT,
    *,
    outcomes: str | Sequence[str] = ("log_likelihood",),
    suite: Suite | str | None = None,
    parameters: Mapping[str, int] | None = None,
) -> Findings:
    """Find what the profiles of a study say.

    Parameters
    ----------
    rows, scores, settings, outcomes : as in `estimate`; or in place of all, what it returned, of
        one training seed, or a list of what it returned of several.
    suite : or its name: for learning rates, parameters and rows of a step; without it these
        findings are left out.
    parameters : of each size, in place of the suite's; sizes that were not scored and are larger
        than all that were are extrapolated to.

    Returns
    -------
    The tables, and their sentences.

    Raises
    ------
    ProfileError
        As `estimate`.
    """
    found = estimates_of(_together(rows), scores, settings, outcomes)
    suite = None if suite is None else facts_of(suite)
    level, seed = found.settings.level, found.settings.seed
    tables, lines = CohortTables(), []
    for runs in grouped(found.runs, lambda one: (one.panel.run[::2], one.panel.outcome)):
        if suite is not None:
            of_rate = list(slopes(runs, suite, level, tables))
            lines += [*of_rate, *claim(of_rate, level)]
    for runs in grouped(found.runs, lambda one: (one.panel.run[:2], one.panel.outcome)):
        lines += between_seeds(runs, level)
    lines += [line for one in found.runs for line in exposure(one, found.settings)]
    decayed = [line for one in found.runs for line in decay(one, level, seed)]
    counted = [bits(one, found.settings, suite) for one in found.runs]
    known = [part for part in counted if part is not None]
    prediction, skill = large_from_small(found, suite, parameters, tables)
    return Findings(
        findings=conform(pl.DataFrame(lines, FINDINGS.columns, orient="row"), FINDINGS),
        prediction=prediction,
        prediction_skill=skill,
        decay=conform(pl.DataFrame(decayed, DECAY.columns, orient="row"), DECAY),
        bits=conform(pl.concat(known) if known else pl.DataFrame(schema=BITS.columns), BITS),
    )


def _together(rows: Frame | Estimates | Sequence[Estimates]) -> Frame | Estimates:
    """Put estimates of several seeds together, each of which has rows and steps of its own."""
    if not isinstance(rows, list | tuple) or not rows:
        return rows  # type: ignore[return-value]
    if not all(isinstance(one, Estimates) for one in rows):
        raise TableError("findings: got a list, expected what `estimate` returned in each place")
    return Estimates(tuple(run for one in rows for run in one.runs), rows[0].settings)
