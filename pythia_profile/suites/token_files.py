"""Token files that a run of one's own read slices of, as `suite.toml` names them."""

from dataclasses import dataclass

__all__ = ["TokenFiles"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFiles:
    """Token files of a run of one's own, in the order of its configuration.

    Attributes
    ----------
    paths : files below the suite's store, raw little-endian tokens; one may occur more than once.
    seed : of the permutations.
    token_bytes : bytes of a token, 2 or 4.
    first_pass : 1 for OLMo-core, 0 for OLMo's older trainer.
    together : rows that stay together: target row length over row length (OLMo-core).
    filtered : whether rows with long repetitions were masked (`instance_filter`).
    """

    paths: tuple[str, ...]
    seed: int
    token_bytes: int = 4
    first_pass: int = 1
    together: int = 1
    filtered: bool = False
