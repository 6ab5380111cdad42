"""Settings of scoring: what a number depends on, and how a run goes about it."""

from typing import Any, Literal

from pydantic import Field

from pythia_profile.execute.ray_cluster import RayCluster
from pythia_profile.execute.slurm import SlurmJobs
from pythia_profile.settings import Settings

__all__ = ["RunOptions", "Scoring"]


class Scoring(Settings):
    """How every checkpoint of a panel is scored."""

    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="precision of every forward pass"
    )
    attention: Literal["sdpa", "eager"] = Field(
        "sdpa", description="attention implementation of every forward pass"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where it runs; auto takes a GPU where there is one"
    )
    batch_tokens: int = Field(
        4096,
        ge=1,
        lt=2**31,
        description="tokens of one forward pass, in whole rows; fixed, so that no number depends "
        "on free memory",
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

    @property
    def numerics(self) -> dict[str, Any]:
        """Settings that a number or a kept file depends on, by their names in unit keys."""
        return {
            "dtype": self.dtype,
            "attention": self.attention,
            "device": self.device,
            "batch_tokens": self.batch_tokens,
            "outcomes": list(self.scorers),
            "keep_tokens": self.token_table,
        }


class RunOptions(Settings):
    """How much of the work is done here and now; no number depends on it."""

    workers: int | None = Field(
        None, ge=1, description="processes at most; by default what cores, memory or GPUs allow"
    )
    retry: bool = Field(
        False, description="score quarantined units again; failed ones are tried again anyway"
    )
    shard: tuple[int, int] | None = Field(
        None, description="(i, n), from 1 on: the i-th of n equal parts, for one of n machines"
    )
    require_complete: bool = Field(
        False, description="end with an error where a checkpoint that is asked for does not exist"
    )
    cluster: RayCluster | SlurmJobs | None = Field(
        None, description="machines beyond this one; by default none"
    )
    chunk_rows: int = Field(1024, ge=1, description="rows committed at a time")
