"""Runs that people ask for and whose order or checkpoints are not known here: why, a line each.

In: the name of a suite, a model or a stage of its training. Out: what is not known of it, and what
to do. Where a fact is in no public file it is not guessed.

Sources: allenai/OLMo at 59a53e3 and its branch DataDecide at 7094aab; allenai/OLMo-core at fa6c501;
marin-community/marin at 0394c6b, `docs/reports/marin-32b-retro.md`; swiss-ai/pretrain-code at
531cc8b; pico-lm/pico-train at f0bfdf4.
"""

import re

__all__ = ["why_unknown", "why_unlisted"]

_OWN_SUITE = "with its token files and weights here, describe it with `pythia-profile suite new`"

_WHY = (
    (
        r"olmo-?(1b|7b)(-hf)?$",
        "the order of its rows is not known: it depends on when the run was made, on its number of "
        "devices, or on a list of files that is not published (allenai/OLMo#538, #837, #879)",
    ),
    (
        r"olmo-?(1\.7-7b|7b-0424)",
        "OLMo-1.7 7B (0424): its configuration has the list, the seed 6198 and two passes "
        "(`max_duration: 2ep`), but at which step it ended is not stated there, nor whether it was "
        "resumed inside the second pass, which then read the first one's order "
        f"(allenai/OLMo, commit 1b7d275); {_OWN_SUITE}",
    ),
    (
        r"olmo-?7b-0724",
        "OLMo 7B 0724: the configuration published as its own is a copy of 0424's, and its csv "
        "lists runs of OLMo-7B; what it read is not known",
    ),
    (
        r"olmo-?hybrid",
        "OLMo-Hybrid: over how many steps it read which list is not stated where this package "
        f"looked; {_OWN_SUITE}",
    ),
    (
        r"olmo-?3.*(stage-?3|long)",
        "the long-context stage of OLMo-3 packs documents by best fit, which is not replayed here",
    ),
    (
        r"datadecide",
        "DataDecide: its lists of files are public, but where the token files lie, and so how many "
        "rows each has, is not stated (allenai/DataDecide-data-recipes), and its checkpoints need "
        f"code of their own (hf_olmo); {_OWN_SUITE}",
    ),
    (
        r"apertus",
        "Apertus: only windows of iterations in which texts were planted are published (8B: "
        "gutenberg_v1 1 to 1,677,999, gutenberg_v2 to 2,269,524), not which row a step read",
    ),
    (
        r"marin",
        "Marin: before Mantis the steps of its 32B read data that was never shuffled, by an affine "
        "map, so cohorts are no random parts of the rows and effects would be biased; what came "
        "later is not replayed here",
    ),
)

_UNLISTED = {
    "pico": "Pico's checkpoints are commits of one branch, in code of their own (PicoDecoderHF), "
    "whose rotary layout was not compared with Llama's: not listed or loaded here; bring them as "
    "Llama folders, a folder a step, in a suite of your own (`pythia-profile suite new`)"
}


def why_unknown(name: str) -> str:
    """Say why the order of a run is not known here; empty where nothing is known against it.

    Parameters
    ----------
    name : of a suite or model, with or without its owner; upper or lower case.

    Examples
    --------
    >>> why_unknown("allenai/DataDecide-dolma1_7-1B").partition(":")[0]
    'DataDecide'
    >>> why_unknown("pythia")
    ''
    """
    plain = name.lower().rpartition("/")[2]
    return next((line for pattern, line in _WHY if re.match(pattern, plain)), "")


def why_unlisted(suite: str) -> str:
    """Say why a suite's repositories list no checkpoints that are loaded here; usually empty."""
    return _UNLISTED.get(suite, "")
