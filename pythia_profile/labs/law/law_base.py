"""The frozen model whose adapters learn: any checkpoint of any suite, by the strict loader."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_order.pack import open_tokenizer
from pythia_profile.checkpoints.grid import Located, locate
from pythia_profile.checkpoints.prefetch import Prefetcher
from pythia_profile.errors import NotFoundError, StudyError, not_found
from pythia_profile.labs.law.law_settings import LawSettings
from pythia_profile.store import read_json
from pythia_profile.study import open_study
from pythia_profile.suites.model import Size, Suite
from pythia_profile.suites.registry import open_suite

__all__ = ["Base", "opened_base"]


@dataclass(frozen=True, slots=True)
class Base:
    """A checkpoint on this disk, and what must be known of it before it is loaded.

    Attributes
    ----------
    name : suite, size and step.
    folder : its files.
    weights : hash of each file.
    context, vocabulary, parameters : positions and token ids that the model has, and its size.
    suite : that it is from.
    """

    name: str
    folder: Path
    weights: Mapping[str, str]
    context: int
    vocabulary: int
    parameters: int
    suite: Suite = field(repr=False)

    def tokenizer(self, given: str) -> Any:
        """Return the tokenizer that was named, or the suite's own; None where there is none."""
        if given:
            return open_tokenizer(given)
        if self.suite.root and self.suite.tokenizer:
            return open_tokenizer(self.suite.root / self.suite.tokenizer)
        return None


@contextmanager
def opened_base(settings: LawSettings) -> Iterator[Base]:
    """Bring the checkpoint here and hold it while the block runs.

    Raises
    ------
    NotFoundError
        There is no such suite, size, checkpoint or layer.
    StudyError
        A rank is above the model's width; nothing was fetched then.
    RefusedError
        The checkpoint is not what it claims to be.
    """
    suite, located = _located(settings)
    with Prefetcher() as downloads, downloads.held(located.source) as folder:
        config = read_json(folder / "config.json")
        yield Base(
            name=f"{suite.name} {settings.size} step {located.step}",
            folder=folder,
            weights=located.weights,
            context=config["max_position_embeddings"],
            vocabulary=config["vocab_size"],
            parameters=suite.size(settings.size).parameters,
            suite=suite,
        )


def _located(settings: LawSettings) -> tuple[Suite, Located]:
    name, near = settings.suite, None
    if (Path(name) / "study.toml").is_file():
        name, near = open_study(name).suite, Path(name)
    suite = open_suite(name, [settings.size], settings.training_seed, near=near)
    step = settings.checkpoint
    if step is None:
        step = max(suite.usual_checkpoints(settings.size), default=suite.steps)
    _check(settings, f"{suite.name} {settings.size} step {step}", suite.size(settings.size))
    found = locate(suite, [settings.size], [step], keep=1).chosen("refuse")
    if not found:
        raise NotFoundError(f"checkpoint {step} of {suite.name} {settings.size} is missing")
    if found[0].fault:
        raise StudyError(f"{suite.name} {settings.size} step {step}: {found[0].fault}")
    return suite, found[0]


def _check(settings: LawSettings, name: str, size: Size) -> None:
    """Refuse adapters that the model cannot have."""
    if (most := max(settings.ranks)) > size.width:
        raise StudyError(
            f"ranks: got {most}, {name} has width {size.width}; a map of higher rank does not "
            "exist, take ranks up to the width"
        )
    for layer in settings.layers:
        if layer >= size.layers:
            raise not_found(f"layer of {name}:", str(layer), [str(n) for n in range(size.layers)])
