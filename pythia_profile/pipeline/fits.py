"""Do the settings of a study fit its suite? Asked when they are set, and before anything is run.

In: settings, and the facts of a suite. Out: nothing, or the error that a later stage would end in.
"""

from pathlib import Path

from pythia_profile.errors import SettingsError
from pythia_profile.pipeline.inputs import check_outcomes
from pythia_profile.profiles.features import FEATURES
from pythia_profile.study import Study
from pythia_profile.suites.model import Suite
from pythia_profile.tables import ROWS, SCORES
from pythia_profile.text import steps_text

__all__ = ["check_fit"]

_BASE = tuple(name for name in SCORES.columns if name not in SCORES.key)


def check_fit(folder: Path, study: Study, suite: Suite | None) -> None:
    """Refuse settings that no stage of this suite can work with; None is a suite not known here.

    Raises
    ------
    StudyError
        An outcome is not scored.
    SettingsError
        A covariate is not known, the anticipation is longer than the run, or bands are asked for
        of a cohort that there is not.
    NotFoundError
        A scorer is unknown, or needs what the suite does not have.
    """
    if suite is not None and study.score.scorers:
        from pythia_profile.scoring.run import check_scorers  # torch is imported

        check_scorers(suite, study.score)
    check_outcomes(folder, study)
    if suite is not None:
        _check_anticipation(study, suite)
        _check_family(study, suite)
    _check_covariates(folder, study, _BASE)


def _check_anticipation(study: Study, suite: Suite) -> None:
    for size in study.sizes:
        steps = study.checkpoints or suite.usual_checkpoints(size)
        if steps and study.estimate.anticipation >= (length := max(steps) - min(steps)) > 0:
            raise SettingsError(
                f"estimate.anticipation: got {study.estimate.anticipation}, expected fewer than "
                f"the {length:,} steps from the first checkpoint of {size} to its last"
            )


def _check_family(study: Study, suite: Suite) -> None:
    """Cohorts are the checkpoints after the first: bands over the path of another have no cells."""
    kind, _, cohort = study.estimate.family.partition(":")
    if kind != "path":
        return
    for size in study.sizes:
        cohorts = sorted(study.checkpoints or suite.usual_checkpoints(size))[1:]
        if cohorts and cohort not in map(str, cohorts):
            raise SettingsError(
                f"estimate.family: got 'path:{cohort}', expected a cohort of {size}, one of its "
                f"checkpoints after the first: {steps_text(cohorts)}"
            )


def _check_covariates(folder: Path, study: Study, outcomes: tuple[str, ...]) -> None:
    """Check the names of covariates that the study itself makes; columns of own rows are theirs."""
    if (folder / ROWS.name).with_suffix(".parquet").exists():
        return
    known = ["base", "sizes", "features", *(f"features.{name}" for name in FEATURES)]
    known += [f"sizes.{size}" for size in study.sizes]
    if study.reference:
        known += ["reference", *(f"reference.{name}" for name in outcomes)]
    known += [name for name in ROWS.columns if name not in ("row_id", "tokens")]
    for name in study.estimate.covariates:
        if name not in known:
            more = "" if study.reference else "; reference needs the setting of that name"
            raise SettingsError(
                f"estimate.covariates: got '{name}', expected among {', '.join(known)}{more}"
            )
