"""Which rows of a suite a study follows: its settings, a section of `study.toml`."""

from pathlib import Path
from typing import Any, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from pythia_profile.settings import Settings
from pythia_profile.suites.model import Suite

__all__ = ["Sampling"]

_MOST = 2**31
_LATER = (
    *("published", "held_out", "held_out_tokenizer"),
    *("single_exposure", "documents", "document_split"),
    *("placebo", "skipped_steps", "store"),
)
"""Settings that older studies do not have."""


class Sampling(Settings):
    """Which rows are drawn; `study.toml` has them as `sample`.

    Examples
    --------
    >>> Sampling(rows_per_cohort=25)
    Traceback (most recent call last):
        ...
    pythia_profile.errors.SettingsError: rows_per_cohort: got 25, expected a multiple of
    batches_per_cohort (10)
    """

    rows_per_cohort: int = Field(
        100, ge=1, lt=_MOST, description="treated rows drawn for each cohort, or all it has"
    )
    batches_per_cohort: int = Field(
        10,
        ge=0,
        lt=_MOST,
        description="batches they are drawn from, the same number of rows of each; 0 draws over "
        "all rows of the cohort",
    )
    never_treated: int = Field(
        2000,
        ge=0,
        lt=_MOST,
        description="control rows, past the last step that a scored checkpoint has read",
    )
    seed: int = Field(0, ge=0, lt=2**63, description="seed of the draw")
    published: bool = Field(
        False,
        description="whether to draw the rows of the published study of Pythia (its seeds 1994 and "
        "1234, whatever the seed here), with its row ids as the column published_row_id",
    )
    held_out: str = Field(
        "",
        description="text that the run never read, from which control rows are drawn: a store of "
        "rows or a file of documents (.jsonl), relative to the study's folder or absolute; empty "
        "draws them from the suite's rows past the last step",
    )
    held_out_tokenizer: str = Field(
        "",
        description="tokenizer.json for a held_out file of documents; empty takes the suite's",
    )
    single_exposure: bool = Field(
        False,
        description="whether to draw only rows of whose text no other row that was read holds any",
    )
    documents: str = Field(
        "",
        description="the .idx of the documents that the run shuffled, relative to the study's "
        "folder or absolute; with the suite's data seed it says how much of each row had been read "
        "before; empty where that is known, or need not be",
    )
    document_split: str = Field(
        "",
        description="document split of that run, 969,30,1 for instance; empty where it read all "
        "documents",
    )

    placebo: int = Field(
        0,
        ge=0,
        lt=_MOST,
        description="rows of each cohort that are looked through for placebo rows: read, but "
        "masked by the run's filter, at rate 0 or in a skipped step; their effect must be 0, and "
        "`check` says whether it is",
    )
    skipped_steps: tuple[int, ...] = Field(
        (), description="steps whose update the trainer skipped, from its log"
    )
    store: str = Field(
        "",
        description="the run's rows or token files on this machine, relative to the study's folder "
        "or absolute; empty takes the suite's own store, or the net",
    )

    share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="share of the drawn rows that is kept, whole batches in an order that the seed "
        "fixes, so that a larger share holds every smaller one; `score --until` sets it",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.published and (self.rows_per_cohort, self.batches_per_cohort) != (100, 10):
            raise ValueError(
                f"published: its draw is 100 rows from 10 batches of each 1,000 steps, got "
                f"rows_per_cohort {self.rows_per_cohort}, batches_per_cohort "
                f"{self.batches_per_cohort}; leave them at 100 and 10"
            )
        if self.published and self.single_exposure:
            raise ValueError("single_exposure: got true, but the published draw is fixed")
        if self.published and self.never_treated and not self.held_out:
            raise ValueError(
                "held_out: missing, expected the text from which the published draw takes its "
                "never-treated rows, or never_treated = 0"
            )
        if self.held_out and not self.never_treated:
            raise ValueError("held_out: got text, but never_treated = 0 draws no row of it")
        if self.held_out_tokenizer and ".jsonl" not in Path(self.held_out).suffixes:
            raise ValueError(
                f"held_out_tokenizer: got '{self.held_out_tokenizer}', but held_out is no .jsonl "
                "file of documents"
            )
        if self.document_split and not self.documents:
            raise ValueError(
                f"document_split: got '{self.document_split}', but no documents that were split"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_unset(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A study that does not use the later settings keeps the key that it had before them.
        unset = {name for name in _LATER if not getattr(self, name)}
        unset |= {"share"} if self.share == 1 else set()
        return {name: value for name, value in plain(self).items() if name not in unset}

    @model_validator(mode="after")
    def _shared_out(self) -> Self:
        if self.batches_per_cohort and self.rows_per_cohort % self.batches_per_cohort:
            raise ValueError(
                f"rows_per_cohort: got {self.rows_per_cohort}, expected a multiple of "
                f"batches_per_cohort ({self.batches_per_cohort})"
            )
        return self

    @classmethod
    def of(cls, suite: Suite, settings: "Sampling | None" = None) -> Self:
        """Return settings; what they leave open is as the suite proposes, or the default."""
        proposed = {n: value for n, value in suite.study_defaults.items() if n in cls.model_fields}
        said = {} if settings is None else dict(settings)
        chosen = set() if settings is None else settings.model_fields_set
        if said.get("published"):  # that draw is fixed
            return cls(**said)
        return cls(**{**proposed, **{name: said[name] for name in chosen}})
