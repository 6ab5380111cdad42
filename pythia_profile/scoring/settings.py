"""Settings of the scoring of a study."""

from typing import Literal

from pydantic import Field

from pythia_profile.settings import Settings

__all__ = ["Scoring"]


class Scoring(Settings):
    """How every checkpoint of a study is scored; `study.toml` has them as `score`."""

    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="precision of every forward pass"
    )
    attention: Literal["sdpa", "eager"] = Field(
        "sdpa", description="attention implementation of every forward pass"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where it runs; auto takes a GPU where there is one"
    )
    scorers: tuple[str, ...] = Field(
        (), description="sets of columns beyond the base ones, as scoring.outcomes names them"
    )
    token_table: bool = Field(
        False, description="whether the statistics of every token are kept too (tokens/)"
    )
    faulty: Literal["refuse", "skip", "accept"] = Field(
        "refuse",
        description="what to do with checkpoints that are not what they claim to be: refuse to "
        "score any, skip them, or accept them",
    )
    keep: int = Field(
        0,
        ge=-1,
        lt=2**31,
        description="fetched checkpoints that stay on disk when they are scored; -1 for all",
    )
