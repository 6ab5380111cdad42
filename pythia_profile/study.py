"""A study: its settings, and the folder that holds them with every table, figure and report.

    study.toml     settings, written once by `init` or `demo`
    rows.parquet   scores/   att.parquet   profiles.parquet   agreement.parquet
    figures/   report.html
    lock.json      what was pinned: versions, hashes, seeds, and what each stage read and wrote

The settings hold everything that a number depends on; options of a verb only choose what to do.
Each section of them belongs to a room: `Sampling`, `Scoring`, `Estimation`, `Audit`.
"""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_origin

from pydantic import Field, model_validator

from pythia_profile.did.settings import Estimation
from pythia_profile.errors import NotFoundError, SettingsError, StudyError, as_path, did_you_mean
from pythia_profile.lock import read_lock, update_lock
from pythia_profile.mini.settings import Audit
from pythia_profile.scoring.columns import BASE, columns_of, is_scorer, scorer_columns
from pythia_profile.scoring.settings import Scoring
from pythia_profile.settings import (
    Settings,
    check_format,
    checked,
    explained,
    read_toml,
)
from pythia_profile.store import remove_leftovers, write_text
from pythia_profile.suites.registry import is_known, suite_facts_of
from pythia_profile.suites.sampling import Sampling

__all__ = [
    "Audit",
    "Estimation",
    "Sampling",
    "Scoring",
    "Study",
    "change_study",
    "changed",
    "create_study",
    "demo_study",
    "new_study",
    "open_study",
    "read_lock",
    "update_lock",
]

FILE_NAME = "study.toml"
_FORMAT = 2
_KEYS = ("suite", "size", "seed", "checkpoint", "row_id")


class Study(Settings):
    """Settings of a study: what is scored, and a section for each room.

    Examples
    --------
    >>> Study(suite="mini", sizes=("xs",), estimate=Estimation(draws=500)).estimate.draws
    500
    """

    suite: str = Field(
        min_length=1,
        description="name of a suite, or the folder of one, relative to the study's folder or "
        "absolute",
    )
    sizes: tuple[str, ...] = Field(min_length=1, description="models to score, smallest first")
    training_seed: int = Field(0, ge=0, lt=2**63, description="which of the suite's training runs")
    checkpoints: tuple[Annotated[int, Field(ge=0, lt=2**63)], ...] = Field(
        (), description="steps to score, ascending; empty means all that exist"
    )
    outcomes: tuple[str, ...] = Field(
        ("log_likelihood",),
        min_length=1,
        description="columns of the scores to estimate effects on",
    )
    reference: str = Field(
        "",
        description="a model that has read none of the rows, whose outcomes are covariates: "
        "held_out (trained on the rows that are not sampled; mini suite only), or a parquet table "
        "of its scores; empty for none",
    )
    show_rows: Literal["auto", "yes", "no"] = Field(
        "auto",
        description="whether the report shows rows as text, the most and the least remembered "
        "ones; auto shows those of the mini suite, not other people's text",
    )
    sample: Sampling = Field(Sampling(), description="Which rows are drawn.")
    score: Scoring = Field(Scoring(), description="How checkpoints are scored.")
    estimate: Estimation = Field(Estimation(), description="How effects are estimated.")
    audit: Audit = Field(
        Audit(),
        description="Retraining without a cohort, to check the estimate against the true effect.",
    )

    @model_validator(mode="before")
    @classmethod
    def _scorers_as_outcomes(cls, values: Any) -> Any:
        """Put a scorer's columns in place of its name, and the scorer among those that run."""
        asked = values.get("outcomes") if isinstance(values, dict) else None
        if not isinstance(asked, list | tuple) or not all(isinstance(x, str) for x in asked):
            return values
        score = values.get("score") or {}
        score = dict(score) if isinstance(score, Mapping | Scoring) else score
        scorers = score.get("scorers", ()) if isinstance(score, dict) else None
        named = [name for name in asked if name not in columns_of(()) and is_scorer(name)]
        if not named or not isinstance(scorers, list | tuple):
            return values
        columns = [
            c for name in asked for c in (scorer_columns(name) if name in named else (name,))
        ]
        score["scorers"] = tuple(dict.fromkeys((*scorers, *(n for n in named if n != BASE))))
        return {**values, "outcomes": tuple(columns), "score": score}

    @model_validator(mode="before")
    @classmethod
    def _as_the_suite_proposes(cls, values: Any) -> Any:
        """Fill in what is left open as a known suite proposes: all ways in give one study."""
        suite = values.get("suite") if isinstance(values, dict) else None
        if not isinstance(suite, str) or not is_known(suite):
            return values
        seed = values.get("training_seed")
        facts = suite_facts_of(suite, seed if isinstance(seed, int) and seed else None)
        sample = values.get("sample") or {}
        if isinstance(sample, Sampling):
            sample = {name: getattr(sample, name) for name in sample.model_fields_set}
        proposed = dict(facts.study_defaults)
        own = {name: proposed.pop(name) for name in Sampling.model_fields if name in proposed}
        if facts.published and "training_seed" not in values:
            proposed["training_seed"] = facts.seed
        sizes = values.get("sizes")
        if isinstance(sizes, list | tuple) and {*map(str, sizes)} <= {*facts.sizes}:
            values = {**values, "sizes": sorted(sizes, key=list(facts.sizes).index)}
        drawn = sample
        if isinstance(sample, dict) and not sample.get("published"):  # that draw is fixed
            drawn = {**own, **sample}
        return {**proposed, **values, "sample": drawn}

    @model_validator(mode="after")
    def _exists(self) -> Self:
        """Refuse sizes and steps that a known suite does not have; of a folder, `score` does."""
        if is_known(self.suite):
            facts = suite_facts_of(self.suite, self.training_seed or None)
            for size in self.sizes:
                facts.check_steps(size, self.checkpoints)
        return self

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        for name in ("sizes", "outcomes"):
            if len({*(values := getattr(self, name))}) < len(values):
                raise ValueError(f"{name}: got {', '.join(values)}, expected each once")
        if list(self.checkpoints) != sorted({*self.checkpoints}):
            raise ValueError("checkpoints: expected ascending steps, each once")
        if wrong := [name for name in self.outcomes if name in _KEYS]:
            raise ValueError(f"outcomes: got '{wrong[0]}', which names a line and is no outcome")
        family = self.estimate.family
        if family not in ("post", "placebo", "all") and not family.startswith("path:"):
            raise ValueError(
                f"estimate.family: got '{family}', expected post, placebo, all or path:COHORT"
            )
        if self.audit.size and self.audit.size not in self.sizes:
            raise ValueError(
                f"audit.size: got '{self.audit.size}', expected one of the sizes "
                f"{', '.join(self.sizes)}"
            )
        if self.estimate.control == "never" and not self.sample.never_treated:
            raise ValueError(
                "sample.never_treated: got 0, expected 1 or more, or estimate.control = 'not_yet'"
            )
        return self

    def remarks(self) -> dict[str, str]:
        """Name the columns that the study's scorers give."""
        try:
            return {"outcomes": f"there are {', '.join(columns_of(self.score.scorers))}"}
        except NotFoundError:  # of a package that is not installed here
            return {}

    @property
    def shows_rows(self) -> bool:
        """Whether rows are shown as text."""
        return self.show_rows == "yes" or (self.show_rows == "auto" and self.suite == "mini")


def demo_study(*, quick: bool = False, seed: int = 0) -> Study:
    """Return the settings of the demonstration; `quick` leaves out the largest size."""
    return Study(
        suite="mini",
        sizes=("xs", "s", "m") if quick else ("xs", "s", "m", "l"),
        training_seed=seed,
        sample=Sampling(seed=seed),
        estimate=Estimation(seed=seed),
        audit=Audit(size="xs", cohorts=3 if quick else 5),
    )


def new_study(
    suite: str, sizes: tuple[str, ...], settings: Mapping[str, object] | None = None
) -> Study:
    """Return settings from plain values, each of them checked.

    Parameters
    ----------
    settings : by name: `estimate.draws`, or `draws` alone where only one section has it. Lists may
        be words with commas.

    Raises
    ------
    SettingsError
        A setting is unknown, ambiguous, or has a value that it cannot take.

    Examples
    --------
    >>> new_study("mini", ("xs",), {"draws": 500, "sample.seed": 3}).sample.seed
    3
    """
    content: dict[str, Any] = {"suite": suite, "sizes": sizes}
    return checked(Study, _with_settings(content, settings or {}), "study")


def changed(study: Study, settings: Mapping[str, object]) -> Study:
    """Return a study with other settings, named and checked as in `new_study`.

    Examples
    --------
    >>> study = Study(suite="mini", sizes=("xs",))
    >>> changed(study, {"draws": 500, "outcomes": "first_8"}).outcomes
    ('log_likelihood_first_8',)
    >>> changed(study, {"checkpoints": 64}).checkpoints
    (64,)
    """
    return checked(Study, _with_settings(study.model_dump(), settings), "study")


def _with_settings(content: dict[str, Any], settings: Mapping[str, object]) -> dict[str, Any]:
    for given, value in settings.items():
        section, name, kind = _place(given)
        if get_origin(kind) is tuple and not isinstance(value, list | tuple):
            value = value.split(",") if isinstance(value, str) else [value]
        into = content.setdefault(section, {}) if section else content
        into[name] = value
    return content


def _place(given: str) -> tuple[str, str, Any]:
    """Section (empty for none), name and type of a setting."""
    sections = {name: type(part) for name, part in _sections()}
    places = {("", name): f.annotation for name, f in Study.model_fields.items()}
    places = {place: kind for place, kind in places.items() if place[1] not in sections}
    for section, kind in sections.items():
        places |= {(section, name): f.annotation for name, f in kind.model_fields.items()}
    names = {f"{section}.{name}".removeprefix("."): (section, name) for section, name in places}
    found = [full for full in names if full == given or full.endswith(f".{given}")]
    if given in names:
        found = [given]
    if len(found) > 1:
        raise SettingsError(f"study: setting '{given}' is one of {', '.join(found)}; say which")
    if not found:
        guess = did_you_mean(given, names)
        raise SettingsError(f"study: unknown setting '{given}';{guess} known: {', '.join(names)}")
    return *names[found[0]], places[names[found[0]]]


def _sections() -> list[tuple[str, Settings]]:
    fields = Study.model_fields.items()
    return [(name, f.default) for name, f in fields if isinstance(f.default, Settings)]


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
    folder = as_path(folder)
    if (folder / FILE_NAME).exists():
        found = open_study(folder)
        if found != study and not (replace and found.suite == study.suite):
            raise StudyError(
                f"'{folder}' holds a study with other settings ({_difference(found, study)}); "
                f"change them there with `pythia-profile set {shlex.quote(str(folder))} "
                "NAME=VALUE`, or choose another folder"
            )
        if found == study:
            return found
        remove_leftovers(folder)
    _write(folder, study)
    return study


def change_study(folder: Path | str, settings: Mapping[str, object]) -> tuple[Study, str]:
    """Write other settings into the study of `folder`; only stages that they concern run again.

    Parameters
    ----------
    settings : by name, as in `new_study`.

    Returns
    -------
    The study, and what changed, in words; empty where nothing did.
    """
    folder = as_path(folder)
    found = open_study(folder)
    study = changed(found, settings)
    if said := _difference(found, study, ("before", "now")):
        remove_leftovers(folder)
        _write(folder, study)
    return study, said


def _write(folder: Path, study: Study) -> None:
    write_text(f"format = {_FORMAT}\n{explained(study)}", folder / FILE_NAME)


def open_study(folder: Path | str) -> Study:
    """Read the settings of the study in `folder`, of this version or of format 1.

    Raises
    ------
    StudyError
        There is no study, it is of another version, or a setting is wrong.
    """
    path = as_path(folder) / FILE_NAME
    if not path.exists():
        raise StudyError(
            f"no study in '{folder}' ({FILE_NAME} is missing); make one with `pythia-profile init "
            f"{folder} --suite mini`, or run `pythia-profile demo --out {folder}`"
        )
    content = read_toml(path)
    version = content.pop("format", None)
    if version == 1:
        return checked(Study, _from_format_1(content), f"'{path}'")
    check_format(version, _FORMAT, path)
    return checked(Study, content, f"'{path}'")


_FORMAT_1 = {
    "sample": ("seed", "rows_per_cohort", "batches_per_cohort", "never_treated"),
    "score": ("scorers", "token_table", "dtype", "attention", "device", "faulty", "keep"),
    "estimate": (
        *("seed", "control", "base", "estimator", "anticipation", "clusters", "draws", "level"),
        "unbalanced",
    ),
    "audit": ("counterfactual_size", "counterfactual_cohorts", "counterfactual_horizon"),
}
"""Sections, and which flat settings of format 1 they hold."""


def _from_format_1(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Sort the flat settings of format 1 into sections; unknown ones stay, to be refused."""
    moved = {name for names in _FORMAT_1.values() for name in names}
    content = {name: value for name, value in flat.items() if name not in moved}
    for section, names in _FORMAT_1.items():
        content[section] = {
            name.removeprefix("counterfactual_").replace("unbalanced", "missing"): flat[name]
            for name in names
            if name in flat
        }
    return content


def _difference(
    found: Settings, asked: Settings, words: tuple[str, str] = ("there", "here"), section: str = ""
) -> str:
    named = []
    for name in type(found).model_fields:
        old, new = getattr(found, name), getattr(asked, name)
        if old == new:
            continue
        if isinstance(old, Settings):
            named.append(_difference(old, new, words, f"{name}."))
        else:
            named.append(f"{section}{name} is {old!r} {words[0]}, {new!r} {words[1]}")
    return ", ".join(named)
