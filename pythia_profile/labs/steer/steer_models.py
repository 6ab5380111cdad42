"""A model and its tokenizer from a folder: whole, or refused; nothing is fetched or made up."""

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import logging as transformers_logging

from data_order.pack import open_tokenizer
from pythia_profile.labs.steer.steer_settings import SteerError

__all__ = ["Vocabulary", "load_model", "read_words"]


def load_model(folder: Path) -> PreTrainedModel:
    """Load a causal language model of any class of transformers, in float32, for evaluation.

    Raises
    ------
    SteerError
        The folder holds no such model, or not all of its tensors: an output matrix that is missing
        would else be drawn at random.
    """
    if not (folder / "config.json").is_file():
        raise SteerError(f"'{folder}': no config.json, expected the folder of a model")
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder, local_files_only=True, output_loading_info=True, dtype="float32"
            )
    except Exception as error:  # whatever a file of another kind leads to
        reason = " ".join(str(error).split())[:200]
        raise SteerError(f"'{folder}' holds no causal language model: {reason}") from error
    finally:
        transformers_logging.set_verbosity(verbosity)
    model, found = loaded
    lacking = sorted({*found["missing_keys"], *(key[0] for key in found["mismatched_keys"])})
    head = model.get_output_embeddings()
    if any(model.get_parameter(key) is getattr(head, "weight", None) for key in lacking):
        raise SteerError(
            f"'{folder}' has no output matrix ({lacking[0]}), which a steer acts on; expected a "
            "model that predicts tokens, such as GPTNeoXForCausalLM"
        )
    if lacking:
        raise SteerError(f"'{folder}' lacks {len(lacking)} tensors of its config: {lacking[0]}")
    whole: PreTrainedModel = model.train(False).requires_grad_(False)
    return whole


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """From text to token ids and back; without a tokenizer, tokens are shown as their numbers."""

    tokenizer: Any = None

    @classmethod
    def of(cls, folder: Path | None, tokenizer: Path | None = None) -> "Vocabulary":
        """Open a tokenizer, else the `tokenizer.json` of a model's folder if there is one."""
        beside = folder / "tokenizer.json" if folder else None
        found = tokenizer or (beside if beside and beside.is_file() else None)
        return cls(open_tokenizer(found) if found else None)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; no special tokens.

        Raises
        ------
        SteerError
            There is no tokenizer.
        """
        if self.tokenizer is None:
            raise SteerError("texts need the model's tokenizer.json; give its folder, or tokens")
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids."""
        if self.tokenizer is None:
            return "".join(f"{one} " for one in ids)
        return str(self.tokenizer.decode([int(one) for one in ids], skip_special_tokens=False))


def read_words(path: Path, vocabulary: Vocabulary, tokens: int) -> dict[str, list[int]]:
    """Read named lists of words or token ids from JSON; a word is its first token.

    Parameters
    ----------
    tokens : how many the model has.

    Raises
    ------
    SteerError
        The file holds something else, or a token that the model does not have.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SteerError(f"{path}: cannot be read as JSON ({error})") from error
    listed = found.values() if isinstance(found, dict) else [None]
    if not found or not all(isinstance(one, list) and one for one in listed):
        raise SteerError(f'{path}: expected an object of lists, as {{"good": ["great", "fine"]}}')
    named = {
        name: [one if isinstance(one, int) else vocabulary.encode(str(one))[0] for one in words]
        for name, words in found.items()
    }
    for name, ids in named.items():
        if odd := [one for one in ids if not 0 <= one < tokens]:
            raise SteerError(
                f"{path}: '{name}' has token {odd[0]:,}, the model's are 0 to {tokens - 1:,}; "
                "give ids of its own tokenizer, or words"
            )
    return named
