"""Families of models whose recall has been compared, as data: class, tokenizer, what precedes text.

A prompt must begin as a document began in training: where every document began with a token of its
own, a prompt without it is text that the model never read so (`recall_scores.score_model`). Sizes
and shapes are not repeated here: a suite has them, else the config.json of a repository.

Sources: model cards of the repositories named, as recalled and not fetched again; families after
Chen, Han and Miyao (2026, arXiv 2603.21658).
"""

from dataclasses import dataclass

import polars as pl

from pythia_profile.errors import not_found

__all__ = ["FAMILIES", "Family", "families_table", "family"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Models of one architecture and tokenizer.

    Attributes
    ----------
    name : as verbs take it.
    model_type : class by its name in config.json; the strict loader knows it.
    tokenizer : repository whose `tokenizer.json` it is; empty of one that is made here.
    prefix : token ids before every document in training; empty where rows are cut from a stream.
    separator : token id between documents; None where there is none.
    positions : `rotary` or `learned`.
    suites : of this package, checkpoint by checkpoint.
    repositories : of the hub, with the last weights only.
    note : what one should know of it.
    """

    name: str
    model_type: str
    tokenizer: str
    prefix: tuple[int, ...] = ()
    separator: int | None
    positions: str = "rotary"
    suites: tuple[str, ...] = ()
    repositories: tuple[str, ...] = ()
    note: str = ""


_STREAM = "rows are cut from a stream of documents, so most begin inside one"

FAMILIES: dict[str, Family] = {
    one.name: one
    for one in (
        Family(
            name="mini",
            model_type="gpt_neox",
            tokenizer="",
            separator=None,
            suites=("mini",),
            note="trained on this machine; rows are cut from Python files",
        ),
        Family(
            name="pythia",
            model_type="gpt_neox",
            tokenizer="EleutherAI/pythia-70m",
            separator=0,
            suites=("pythia", "pythia-deduped", "polypythias"),
            note=_STREAM,
        ),
        Family(
            name="olmo1",
            model_type="olmo",
            tokenizer="allenai/OLMo-1B-hf",
            separator=50_279,
            repositories=("allenai/OLMo-1B-hf", "allenai/OLMo-7B-hf"),
            note=f"{_STREAM}; suites olmo-1b, olmo-7b list checkpoints in code of their own",
        ),
        Family(
            name="olmo2",
            model_type="olmo2",
            tokenizer="allenai/OLMo-2-0425-1B",
            separator=100_257,
            suites=("olmo2-1b", "olmo2-7b", "olmo2-13b", "olmo2-32b"),
            note=_STREAM,
        ),
        Family(
            name="olmo3",
            model_type="olmo3",
            tokenizer="allenai/Olmo-3-1025-7B",
            separator=100_257,
            suites=("olmo3-7b", "olmo3-32b"),
            note=f"{_STREAM}; three layers of four see a window only",
        ),
        Family(
            name="openllama",
            model_type="llama",
            tokenizer="openlm-research/open_llama_3b",
            prefix=(1,),
            separator=None,
            repositories=(
                "openlm-research/open_llama_3b",
                "openlm-research/open_llama_7b",
                "openlm-research/open_llama_13b",
            ),
            note="every text began with token 1 in training; its fast tokenizer was wrong at first",
        ),
        Family(
            name="starcoder",
            model_type="gpt_bigcode",
            tokenizer="bigcode/starcoderbase-1b",
            separator=0,
            positions="learned",
            repositories=(
                "bigcode/starcoderbase-1b",
                "bigcode/starcoderbase-3b",
                "bigcode/starcoderbase-7b",
            ),
            note="asks for a license to be accepted; half of its files were read with their middle "
            "moved to the end",
        ),
    )
}
"""By name."""


def family(name: str) -> Family:
    """Return the family called `name`.

    Raises
    ------
    NotFoundError
        There is none; a typo is answered with near matches.
    """
    if name not in FAMILIES:
        raise not_found("family", name, list(FAMILIES))
    return FAMILIES[name]


def families_table() -> pl.DataFrame:
    """List all families, a line each."""
    return pl.DataFrame(
        [
            {
                "family": one.name,
                "class": one.model_type,
                "positions": one.positions,
                "tokenizer": one.tokenizer,
                "prefix": ", ".join(map(str, one.prefix)),
                "separator": one.separator,
                "suites": ", ".join(one.suites),
                "repositories": ", ".join(one.repositories),
                "note": one.note,
            }
            for one in FAMILIES.values()
        ],
        schema_overrides={"separator": pl.Int64},
    )
