"""A study from Python: its settings, and once it has a folder, its stages, tables and report.

study = pp.create_study("my-study", pp.Study(suite="mini", sizes=("xs", "s")))
study.run()                     # every stage that is not up to date
study.summary                   # one line a size: at once, later, at the end
study.att, study.scores         # any table, as polars
study.set(draws=500).status     # what would run again, and why
"""

from collections.abc import Mapping
from pathlib import Path

import polars as pl
from pydantic import PrivateAttr

from pythia_profile import study as settings_of
from pythia_profile.errors import MissingTableError, StudyError, as_path
from pythia_profile.findings.whole import Findings
from pythia_profile.pipeline.inputs import check_outcomes, study_scores, suite_if_known
from pythia_profile.pipeline.kept import study_estimates
from pythia_profile.pipeline.makers import StageOptions
from pythia_profile.pipeline.results import study_summary
from pythia_profile.pipeline.running import run_all, run_stage
from pythia_profile.pipeline.stages import explain_stages
from pythia_profile.pipeline.study_pair import Comparison, compare_studies
from pythia_profile.pipeline.until import MEANS, Stopped, score_until
from pythia_profile.profiles.estimates import Estimates
from pythia_profile.scoring.settings import RunOptions
from pythia_profile.settings import Settings
from pythia_profile.store import read_table
from pythia_profile.tables import ATT, FOUND, PLACEBO, PROFILES, ROWS
from pythia_profile.text import to_latex, to_markdown

__all__ = ["Study", "create_study", "open_study"]


class Study(settings_of.Study):
    """Settings of a study, and its folder where it has one: `create_study` gives it one.

    Two studies are equal when their settings are.

    Examples
    --------
    >>> study = Study(suite="mini", sizes=("s", "xs"))
    >>> study.sizes, study.sample.never_treated
    (('xs', 's'), 1024)
    >>> study
    Study of mini: xs, s; outcomes log_likelihood; without a folder
    >>> study.rows
    Traceback (most recent call last):
        ...
    pythia_profile.errors.StudyError: this study has no folder; pp.create_study(folder, study) gives
    it one
    """

    _folder: Path | None = PrivateAttr(None)

    @property
    def folder(self) -> Path:
        """Folder of the study.

        Raises
        ------
        StudyError
            It has none yet.
        """
        if self._folder is None:
            raise StudyError(
                "this study has no folder; pp.create_study(folder, study) gives it one"
            )
        return self._folder

    def run(self, workers: int | None = None) -> "Study":
        """Run every stage that is not up to date; resumes. Returns the study."""
        run_all(self.folder, workers)
        return self

    def set(self, settings: Mapping[str, object] | None = None, **more: object) -> "Study":
        """Write other settings into study.toml; return the study with them.

        Parameters
        ----------
        settings, more : by name: `draws=500`, or `{"sample.seed": 3}`.
        """
        settings_of.change_study(self.folder, {**(settings or {}), **more})
        return open_study(self.folder)

    def score_until(
        self, half_width: float, *, of: str = MEANS[0], options: RunOptions | None = None
    ) -> Stopped:
        """Score rows in random order until an interval is narrow enough; says what is left.

        Parameters and errors are those of `pipeline.until.score_until`; `pp.open_study` gives the
        settings that it leaves.
        """
        return score_until(self.folder, half_width, of=of, options=options)

    @property
    def status(self) -> dict[str, str]:
        """State of each stage, and why: what has changed since it was run."""
        return {
            name: found.state + (f": {found.why}" if found.why else "")
            for name, found in explain_stages(self.folder).items()
        }

    @property
    def rows(self) -> pl.DataFrame:
        """The sampled rows, as `sample_rows` gives them; drawn if they are not there."""
        if not (self.folder / "rows.parquet").exists():
            run_stage(self.folder, "sample")
        return read_table(self.folder / "rows.parquet", ROWS, "sample")

    @property
    def scores(self) -> pl.DataFrame:
        """Every row at every checkpoint, as `score` gives them."""
        return study_scores(self.folder, self._plain, suite_if_known(self.folder))

    @property
    def effects(self) -> Estimates:
        """Panel and ATT(g, c) of every run, as `estimate` gives them."""
        return study_estimates(self.folder, self._plain)

    @property
    def att(self) -> pl.DataFrame:
        """ATT(g, c) with bands."""
        return read_table(self.folder / "att.parquet", ATT, "att")

    @property
    def placebo(self) -> pl.DataFrame:
        """Tests of effects before treatment."""
        return read_table(self.folder / "placebo.parquet", PLACEBO, "att")

    @property
    def profiles(self) -> pl.DataFrame:
        """Instantaneous, persistent and residual effects, and those by event time."""
        return read_table(self.folder / "profiles.parquet", PROFILES, "profile")

    @property
    def findings(self) -> Findings:
        """What the profiles say: five tables and their sentences."""
        found = {
            table.name: read_table(self.folder / f"{table.name}.parquet", table, "findings")
            for table in FOUND
        }
        return Findings(**found)

    def table(self, name: str) -> pl.DataFrame:
        """Read any other table of the study: `sensitivity`, `contrasts`, `counterfactual`.

        Raises
        ------
        MissingTableError
            There is none of this name; those that there are, are named.
        """
        path = self.folder / f"{name}.parquet"
        if not path.exists():
            there = ", ".join(sorted(found.stem for found in self.folder.glob("*.parquet")))
            raise MissingTableError(
                f"no table '{name}' in '{self.folder}'; there are: {there or 'none, run the study'}"
            )
        return pl.read_parquet(path)

    @property
    def summary(self) -> pl.DataFrame:
        """The table that a run ends with: one line a size, with what is remembered and kept."""
        return study_summary(self.folder)

    def to_latex(self, caption: str = "", label: str = "") -> str:
        """Return the summary as a LaTeX table (booktabs)."""
        return to_latex(self.summary, caption=caption, label=label)

    def to_markdown(self) -> str:
        """Return the summary as a Markdown table."""
        return to_markdown(self.summary)

    def report(self, out: str | Path | None = None) -> Path:
        """Bring the study up to date; return the path of its report, a page that works offline.

        Parameters
        ----------
        out : another file, for a page of what is there; nothing in the study is changed.
        """
        if out is not None:
            run_stage(self.folder, "report", StageOptions(out=Path(out)))
            return Path(out)
        self.run()
        return self.folder / "report.html"

    def compare(self, other: "Study | Path | str") -> Comparison:
        """Compare with another study: settings, tables, mean effects."""
        return compare_studies(self.folder, other.folder if isinstance(other, Study) else other)

    @property
    def _plain(self) -> settings_of.Study:
        return settings_of.Study(**dict(self))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, settings_of.Study) and dict(self) == dict(other)

    def __repr__(self) -> str:
        place = f"in '{self._folder}'" if self._folder is not None else "without a folder"
        return (
            f"Study of {self.suite}: {', '.join(self.sizes)}; outcomes {', '.join(self.outcomes)}; "
            f"{place}"
        )

    def __str__(self) -> str:
        return repr(self)

    def _repr_html_(self) -> str:
        from html import escape

        named = ((name, getattr(self, name)) for name in type(self).model_fields)
        lines = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(_html_value(value))}</td></tr>"
            for name, value in named
            if value not in ((), "")
        )
        return f"<p>{escape(repr(self))}</p><table>{lines}</table>"


def _html_value(value: object) -> str:
    if isinstance(value, Settings):
        default = type(value)()
        apart = {n: v for n, v in value if v != getattr(default, n)}
        return ", ".join(f"{name} = {one}" for name, one in apart.items()) or "as by default"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _in_folder(study: settings_of.Study, folder: Path | str) -> Study:
    made = Study(**dict(study))
    made._folder = Path(folder).absolute()  # it stays there when the program goes elsewhere
    return made


def create_study(folder: Path | str, study: settings_of.Study, *, replace: bool = False) -> Study:
    """Write `study.toml` into `folder`, or find the same settings there.

    Parameters
    ----------
    replace : whether other settings of a study of the same suite are replaced; stages that they
        concern are then run again.

    Raises
    ------
    StudyError
        The folder holds a study with other settings, or cannot be written to; or an outcome is no
        column of the scores that the settings ask for.
    """
    if not isinstance(study, settings_of.Study):
        raise StudyError(
            f"study: got {type(study).__name__}, expected pp.Study(suite=..., sizes=...)"
        )
    plain = settings_of.Study(**dict(study))
    check_outcomes(as_path(folder), plain)
    return _in_folder(settings_of.create_study(folder, plain, replace=replace), folder)


def open_study(folder: Path | str) -> Study:
    """Open the study in `folder`.

    Raises
    ------
    StudyError
        There is no study, it is of another version, or a setting is wrong.
    """
    return _in_folder(settings_of.open_study(folder), folder)
