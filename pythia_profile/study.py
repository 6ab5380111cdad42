"""A study: its settings, and the folder that holds them with every table, figure and report.

    study.toml     settings, written once by `init` or `demo`
    rows.parquet   scores/   att.parquet   profiles.parquet   agreement.parquet
    figures/   report.html
    lock.json      what was pinned: versions, hashes, seeds, and what each stage read and wrote

The settings hold everything that a number depends on; options of a verb only choose what to do.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_origin

from pythia_profile.errors import StudyError
from pythia_profile.settings import checked, read_settings, write_settings
from pythia_profile.store import read_json, write_json

__all__ = [
    "Study",
    "create_study",
    "demo_study",
    "new_study",
    "open_study",
    "read_lock",
    "update_lock",
]

FILE_NAME = "study.toml"
LOCK_NAME = "lock.json"
_MOST_DRAWS = 100_000
_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """Settings of a study.

    Attributes
    ----------
    suite : name of a suite, or the folder of one, relative to the study's folder or absolute.
    sizes : models to score, smallest first.
    training_seed : which of the suite's training runs.
    seed : of the sample of rows and of the bootstrap.
    checkpoints : steps to score; empty means all that exist.
    rows_per_cohort : treated rows drawn for each cohort.
    batches_per_cohort : batches they are drawn from; 0 draws over all rows of the cohort.
    never_treated : control rows.
    scorers : sets of columns to score beyond the base ones, as `scoring.outcomes` names them.
    token_table : whether every token's statistics are kept too (`tokens/`).
    outcomes : columns of the scores to estimate effects on.
    dtype, attention : precision and attention implementation of every forward pass.
    device : where it runs; `auto` takes a GPU where there is one.
    control, base : control rows (`never`, `not_yet`, `both`) and base checkpoint (`universal`,
        `varying`), as `did.att_gt` names them.
    estimator : `did`, `diff` (plain difference to the controls), or `ancova` (changes adjusted for
        the base outcome).
    anticipation : checkpoints before the cohort's at which an effect may already be there.
    unbalanced : what to do where a row lacks a score: `error`, `balanced` (leave the row out), or
        `available` (use what is there).
    clusters : `row`, `batch`, or `auto`: by batch where rows are drawn batch by batch.
    draws, level : bootstrap draws; confidence level of bands and intervals.
    faulty : what to do with checkpoints that are not what they claim to be: `refuse` to score any,
        `skip` them, or `accept` them.
    keep : fetched checkpoints that stay on disk when they are scored; -1 for all.
    counterfactual_size : size that is retrained without cohorts; empty for none (mini suite only).
    counterfactual_cohorts : how many cohorts are left out, a retraining each.
    counterfactual_horizon : checkpoints after the cohort's own until which retrainings go on; 0 for
        all that follow.
    """

    suite: str
    sizes: tuple[str, ...]
    training_seed: int = 0
    seed: int = 0
    checkpoints: tuple[int, ...] = ()
    rows_per_cohort: int = 100
    batches_per_cohort: int = 10
    never_treated: int = 2000
    scorers: tuple[str, ...] = ()
    token_table: bool = False
    outcomes: tuple[str, ...] = ("log_likelihood",)
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    attention: Literal["sdpa", "eager"] = "sdpa"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    control: Literal["never", "not_yet", "both"] = "never"
    base: Literal["universal", "varying"] = "universal"
    estimator: Literal["did", "diff", "ancova"] = "did"
    anticipation: int = 0
    unbalanced: Literal["error", "balanced", "available"] = "error"
    clusters: Literal["auto", "row", "batch"] = "auto"
    draws: int = 1000
    level: float = 0.95
    faulty: Literal["refuse", "skip", "accept"] = "refuse"
    keep: int = 0
    counterfactual_size: str = ""
    counterfactual_cohorts: int = 0
    counterfactual_horizon: int = 0

    def __post_init__(self) -> None:
        for name in ("rows_per_cohort", "never_treated", "draws"):
            if getattr(self, name) < 1:
                raise StudyError(f"{name}: got {getattr(self, name)}, expected at least 1")
        if self.keep < -1:
            raise StudyError(f"keep: got {self.keep}, expected a number from 0 on, or -1 for all")
        if self.counterfactual_horizon < 0:
            raise StudyError(
                f"counterfactual_horizon: got {self.counterfactual_horizon}, expected 0 or more"
            )
        if self.anticipation < 0:
            raise StudyError(f"anticipation: got {self.anticipation}, expected 0 or more")
        if not self.outcomes:
            raise StudyError("outcomes: got none, expected at least one column of the scores")
        if wrong := sorted({"suite", "size", "seed", "checkpoint", "row_id"} & set(self.outcomes)):
            raise StudyError(f"outcomes: got '{wrong[0]}', which names a line and is no outcome")
        if len(set(self.outcomes)) < len(self.outcomes):
            raise StudyError(f"outcomes: got {', '.join(self.outcomes)}, expected each once")
        if self.draws > _MOST_DRAWS:
            raise StudyError(f"draws: got {self.draws:,}, expected at most {_MOST_DRAWS:,}")
        if self.counterfactual_size and self.counterfactual_size not in self.sizes:
            raise StudyError(
                f"counterfactual_size: got '{self.counterfactual_size}', expected one of the sizes "
                f"{', '.join(self.sizes)}"
            )
        if bool(self.counterfactual_size) != (self.counterfactual_cohorts > 0):
            raise StudyError(
                "counterfactual_size and counterfactual_cohorts go together: set both, or neither "
                f"(got '{self.counterfactual_size}' and {self.counterfactual_cohorts})"
            )
        if not self.sizes:
            raise StudyError("sizes: got none, expected at least one")
        if len(set(self.sizes)) < len(self.sizes):
            raise StudyError(f"sizes: got {', '.join(self.sizes)}, expected each size once")
        if not 0 < self.level < 1:
            raise StudyError(f"level: got {self.level}, expected a share between 0 and 1")


_TYPES = {field.name: field.type for field in fields(Study)}


def demo_study(*, quick: bool = False, seed: int = 0) -> Study:
    """Return the settings of the demonstration; `quick` leaves out the largest size."""
    return Study(
        suite="mini",
        sizes=("xs", "s", "m") if quick else ("xs", "s", "m", "l"),
        training_seed=seed,
        seed=seed,
        rows_per_cohort=96,
        batches_per_cohort=0,
        never_treated=1024,
        counterfactual_size="xs",
        counterfactual_cohorts=3 if quick else 5,
    )


def new_study(suite: str, sizes: tuple[str, ...], **settings: Any) -> Study:
    """Return settings from plain values, each of them checked; lists may be words with commas.

    Raises
    ------
    StudyError
        A setting is unknown or of another type.
    """
    listed = {
        name: value.split(",")
        for name, value in settings.items()
        if isinstance(value, str) and get_origin(_TYPES.get(name)) is tuple
    }
    return checked(Study, {"suite": suite, "sizes": sizes, **settings, **listed}, "study")


def create_study(folder: Path | str, study: Study, *, replace: bool = False) -> Study:
    """Write `study.toml` into `folder`, or find the same settings there.

    Parameters
    ----------
    replace : whether other settings of a study of the same suite are replaced; stages that they
        concern are then run again.

    Raises
    ------
    StudyError
        The folder holds a study with other settings, or cannot be written to.
    """
    folder = Path(folder)
    if (folder / FILE_NAME).exists():
        there = open_study(folder)
        if there != study and not (replace and there.suite == study.suite):
            raise StudyError(
                f"'{folder}' holds a study with other settings ({_difference(there, study)}); "
                "choose another folder, or delete this one"
            )
        if there == study:
            return there
    write_settings(study, folder / FILE_NAME, _FORMAT, explain=True)
    return study


def open_study(folder: Path | str) -> Study:
    """Read the settings of the study in `folder`.

    Raises
    ------
    StudyError
        There is no study, it is of another version, or a setting is wrong.
    """
    folder = Path(folder)
    if not (folder / FILE_NAME).exists():
        raise StudyError(
            f"no study in '{folder}' ({FILE_NAME} is missing); make one with `pythia-profile init "
            f"{folder} --suite mini`, or run `pythia-profile demo --out {folder}`"
        )
    return read_settings(Study, folder / FILE_NAME, _FORMAT)


def read_lock(folder: Path) -> dict[str, Any]:
    """Return what has been pinned so far; empty for a new study."""
    path = folder / LOCK_NAME
    content = read_json(path) if path.exists() else {}
    odd = [name for name, section in content.items() if not isinstance(section, dict)]
    if odd:
        raise StudyError(f"'{path}': section '{odd[0]}' is damaged; delete the file and run again")
    return content


def update_lock(folder: Path, section: str, facts: dict[str, Any]) -> None:
    """Add `facts` to one section of the lock file."""
    content = read_lock(folder)
    content[section] = {**content.get(section, {}), **facts}
    write_json(content, folder / LOCK_NAME)


def _difference(there: Study, asked: Study) -> str:
    return ", ".join(
        f"{name} is {getattr(there, name)!r} there, {getattr(asked, name)!r} here"
        for name in Study.__dataclass_fields__
        if getattr(there, name) != getattr(asked, name)
    )
