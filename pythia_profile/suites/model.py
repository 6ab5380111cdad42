"""A model suite as data: what was trained, on which order, at which rates, and where it lies."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_order.order import TrainingOrder
from data_order.published import published_order
from data_order.shuffled.filed_runs import FILED_RUNS
from data_order.shuffled.runs import RUNS, OwnFiles, ShuffledRun
from pythia_profile.errors import NotFoundError, OrderError, StudyError, check_kind, not_found
from pythia_profile.suites.schedule import SCHEDULES, Rates
from pythia_profile.suites.token_files import TokenFiles

__all__ = ["KnownFault", "Size", "Suite", "TokenFiles"]

_REPOSITORY = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"
_HUB = "hf://"
_MOST = 10**15
"""Of any count: beyond what was ever trained, and far from the end of 64 bits."""
_SHOWN = 60
_EXPECTED = f"expected a count up to {_MOST:.0e}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """One model of a suite.

    Attributes
    ----------
    name : as the suite calls it, `70m` for instance.
    layers, width, heads : shape of the transformer.
    parameters : all parameters, embeddings and head included.
    peak_lr, min_lr : highest rate and floor of the schedule; 0 where rates are not known.
    precision : dtype in which the weights are stored.
    weights : hub repository ("owner/name"), or folder relative to the suite's own; in a folder's
        suite.toml a repository is "hf://owner/name".
    checkpoints : steps at which weights exist, ascending; empty where only the repository knows.
    non_embedding : parameters without embeddings and head; 0 where not stated.
    """

    name: str
    layers: int
    width: int
    heads: int
    parameters: int
    peak_lr: float
    min_lr: float
    precision: str
    weights: str
    checkpoints: tuple[int, ...]
    non_embedding: int = 0

    def __post_init__(self) -> None:
        counts = {name: getattr(self, name) for name in ("layers", "width", "heads", "parameters")}
        rates = {"peak_lr": self.peak_lr, "min_lr": self.min_lr}
        for name, value in {**counts, "non_embedding": self.non_embedding}.items():
            if not 0 <= value <= _MOST:
                raise StudyError(f"size '{self.name}': {name} is {_shown(value)}, {_EXPECTED}")
        for name, rate in rates.items():
            if not (math.isfinite(rate) and rate >= 0):
                raise StudyError(
                    f"size '{self.name}': {name} is {rate}, expected a finite rate of 0 or more"
                )
        steps = self.checkpoints
        if any(not 0 <= step <= _MOST for step in steps) or list(steps) != sorted({*steps}):
            raise StudyError(
                f"size '{self.name}': checkpoints are {_shown(steps)}, expected ascending steps, "
                "each once, none below 0"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Layers, width, heads."""
        return self.layers, self.width, self.heads


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFault:
    """Something that was reported of published checkpoints.

    Attributes
    ----------
    size : of which model; empty for all of the suite.
    steps : checkpoints concerned; empty where it is not a matter of single ones.
    what : the report, in one line.
    threads : where it can be read, as owner/repository#number.
    """

    what: str
    threads: tuple[str, ...]
    size: str = ""
    steps: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Models trained on one order of rows.

    Attributes
    ----------
    name, title : how it is named on the command line; one line that says what it is.
    batch_size, steps : rows per optimizer step; optimizer steps of the run.
    batch_changes : (steps done, rows per step from then on), ascending; none for one batch size.
    row_tokens : tokens of a row, the last target included (Pythia: 2049).
    vocabulary : number of token ids.
    schedule, warmup_steps : name in `SCHEDULES`; optimizer steps of warm-up.
    decay_steps : length of the schedule in optimizer steps, which need not be whole where it was
        set in tokens; 0 for that of the run.
    data_seed : seed of the shuffle of its rows, where it is known.
    seed : training seed, the third part of a run's name.
    sizes : by name, smallest first.
    published : name of its order among data_order's published ones, where it is one of them.
    root : folder of a suite that lies on this machine; None for one on the hub.
    store : prefix of the .bin and .idx with the rows in training order, relative to `root`; rows
        past the last step are never-treated.
    tokenizer : `tokenizer.json`, relative to `root`.
    single_pass : whether no text is read twice within the run; None where that is not known.
    not_exchangeable : why rows of different steps are known to differ, where they are; cohorts are
        then no random parts of the rows.
    study_defaults : settings with which a study of this suite begins, where they differ.
    token_files : token files that the run read slices of, by one permutation a pass (OLMo,
        OLMo-core); then `store` is their folder.
    revision : name of a checkpoint's branch on the hub, or of its folder; `{label}` is its step
        times `label_steps`, over `step_labels`, plus `first_label`; `{tokens}` a number that only
        the repository knows.
    label_steps : what one optimizer step adds to the label of a checkpoint.
    step_labels, first_label : optimizer steps from one label to the next, where these are several;
        label of step 0.
    seeds : training seeds that there are of this suite.
    faults : what was reported of its checkpoints.
    notes : what one should know of it.
    """

    name: str
    title: str
    batch_size: int
    steps: int
    row_tokens: int
    vocabulary: int
    schedule: str
    warmup_steps: int
    seed: int
    sizes: Mapping[str, Size] = field(repr=False)
    published: str = ""
    data_seed: int | None = None
    root: Path | None = None
    store: str | None = None
    tokenizer: str | None = None
    single_pass: bool | None = None
    not_exchangeable: str = ""
    study_defaults: Mapping[str, int | tuple[int, ...]] = field(default_factory=dict, repr=False)
    decay_steps: int | float = 0
    batch_changes: tuple[tuple[int, int], ...] = ()
    token_files: TokenFiles | None = None
    revision: str = "step{label}"
    label_steps: int = 1
    step_labels: int = 1
    first_label: int = 0
    seeds: tuple[int, ...] = ()
    faults: tuple[KnownFault, ...] = field(default=(), repr=False)
    notes: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if faults := list(self._faults()):
            raise StudyError(f"suite '{self.name}': {'; '.join(faults)}")

    def _faults(self) -> Iterator[str]:
        """Say of each fact that cannot be what it is and what was expected."""
        if self.schedule not in SCHEDULES:
            yield f"schedule is '{self.schedule}', expected one of {', '.join(SCHEDULES)}"
        counts = {
            "batch_size": (self.batch_size, 1),
            "steps": (self.steps, 1),
            "row_tokens": (self.row_tokens, 2),
            "vocabulary": (self.vocabulary, 1),
            "warmup_steps": (self.warmup_steps, 0),
            "decay_steps": (self.decay_steps, 0),
            "label_steps": (self.label_steps, 1),
            "step_labels": (self.step_labels, 1),
        }
        wrong = [name for name, (value, least) in counts.items() if not least <= value <= _MOST]
        for name in wrong:
            value, least = counts[name]
            most = f" and at most {_MOST:.0e}" if value > _MOST else ""
            yield f"{name} is {_shown(value)}, expected at least {least}{most}"
        run = self.batch_size, self.steps, self.batch_changes
        if not wrong:
            try:
                TrainingOrder(*run)
            except OrderError as error:
                wrong = ["batch_changes"]
                yield f"batch_changes: {error}"
        if not wrong and (self.order.batch_size, self.order.steps, self.order.changes) != run:
            yield (
                f"{self.steps} steps of {self.batch_size} rows are not the published order "
                f"'{self.published}'"
            )
        try:
            one, other = (self.revision.format(label=step, tokens="1") for step in (1, 2))
            re.compile(_pattern(self.revision))
        except (LookupError, ValueError, AttributeError, re.error):
            one = other = ""
        if one == other or (self.root is not None and re.search(r"[/\\*?\[]|^\.", one)):
            yield (
                f"revision is '{self.revision}', expected a name with {{label}} in it, such as "
                "'step{label}' or 'global_step{label}'"
            )
        if self.warmup_steps > (self.decay_steps or self.steps):
            yield (
                f"warmup_steps is {self.warmup_steps}, more than the "
                f"{self.decay_steps or self.steps} steps of the schedule"
            )
        for name in (self.name, *self.sizes):
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
                yield f"name {name!r}: expected letters, digits, '.', '_' and '-' only"

    @property
    def order(self) -> TrainingOrder:
        """Which rows each optimizer step read: data_order's published order, if it is one."""
        own = TrainingOrder(self.batch_size, self.steps, self.batch_changes)
        if self.token_files is not None:
            return self._own_run(self.token_files)
        for known in (RUNS, FILED_RUNS):
            if self.published in known:
                return known[self.published]
        return published_order(self.published) if self.published else own

    def _own_run(self, files: TokenFiles) -> ShuffledRun:
        """Order of a run of one's own over token files."""
        return ShuffledRun(
            name=self.name,
            models="",
            files=OwnFiles(files.paths),
            seed=files.seed,
            batch_size=self.batch_size,
            steps=self.steps,
            changes=self.batch_changes,
            row_tokens=self.row_tokens,
            token_bytes=files.token_bytes,
            first_pass=files.first_pass,
            together=files.together,
            filtered=files.filtered,
            single_pass=bool(self.single_pass),
        )

    def size(self, name: str) -> Size:
        """Return the size called `name`; a typo is answered with near matches."""
        check_kind(name, str, "size", "the name of one")
        if name not in self.sizes:
            raise not_found(f"size in suite '{self.name}':", name, list(self.sizes))
        return self.sizes[name]

    def usual_checkpoints(self, size: str) -> tuple[int, ...]:
        """Checkpoints of a size with which a study begins; empty where only its repository knows.

        Those of `study_defaults`, else all of the size.
        """
        proposed = self.study_defaults.get("checkpoints")
        return proposed if isinstance(proposed, tuple) else self.size(size).checkpoints

    def check_steps(self, size: str, steps: Iterable[int], listed: Sequence[int] = ()) -> None:
        """Refuse steps that are no checkpoints of a size; one that was to be there may be a gap.

        Parameters
        ----------
        listed : what its repository lists, where the suite does not know; nothing is refused
            where nobody knows.

        Raises
        ------
        NotFoundError
            A step is none of them; the nearest are named.
        """
        known = self.size(size).checkpoints or tuple(listed)
        for step in steps if known else ():
            if step not in known:
                near = sorted(sorted(known, key=lambda one: abs(one - step))[:2])
                word = "known" if len(known) <= 20 else f"nearest of {len(known)}"
                shown = ", ".join(map(str, known if len(known) <= 20 else near))
                raise NotFoundError(f"no checkpoint {step} of {self.name} {size}; {word}: {shown}")

    def learning_rate(self, size: str, updates: npt.ArrayLike) -> Rates:
        """Rate of each update (n,), 1-based, for one size."""
        model = self.size(size)
        return SCHEDULES[self.schedule](
            updates,
            peak=model.peak_lr,
            minimum=model.min_lr,
            warmup=self.warmup_steps,
            total=self.decay_steps or self.steps,
        )

    def milestones(self, size: str) -> dict[str, int]:
        """Name the steps at which the learning rate of a size changes its course; none if unknown.

        The rate of Pythia's schedule reaches its floor long before the end, unlike a cosine's.
        """
        model, found = self.size(size), dict[str, int]()
        if not model.peak_lr:
            return found
        if self.warmup_steps:
            found["warm-up ends"] = self.warmup_steps
        later = np.arange(self.warmup_steps + 1, self.steps + 1)
        at_floor = self.learning_rate(size, later) <= model.min_lr
        if model.min_lr and at_floor[:-1].any():
            found["rate at its floor"] = int(later[np.argmax(at_floor)])
        return found

    def same_weights(self, size: str, first: int, last: int) -> bool:
        """Whether checkpoints `first` and `last` of a size hold the same weights by design.

        They do where every update between them has rate 0, as Pythia's first one. Where the peak
        is 0, rates are not known.
        """
        if not 0 <= first <= last or not self.size(size).peak_lr:
            return False
        updates = np.arange(first + 1, last + 1)
        return not self.learning_rate(size, updates).any()

    def revision_of(self, step: int) -> str:
        """Name of the branch of a checkpoint; `*` where only the repository knows a part of it."""
        label = step * self.label_steps // self.step_labels + self.first_label
        return self.revision.format(label=label, tokens="*")

    def step_of(self, revision: str) -> int | None:
        """Optimizer step of a branch; None where the branch is no checkpoint of this suite.

        Two labels of one step are never both a checkpoint: a label that is no multiple of
        `label_steps` has no step, nor has one that is not written as its own name.
        """
        found = re.fullmatch(_pattern(self.revision), revision)
        if found is None:
            return None
        label = (int(found["label"]) - self.first_label) * self.step_labels
        if label < 0 or label % self.label_steps:
            return None
        named = self.revision.format(label=int(found["label"]), tokens=found.groupdict().get("n"))
        return label // self.label_steps if named == revision else None

    def repository(self, size: str) -> str | None:
        """Hub repository of a size; None where its weights lie in the suite's own folder."""
        weights = self.size(size).weights
        if self.root is not None:
            return weights.removeprefix(_HUB) if weights.startswith(_HUB) else None
        return weights if re.fullmatch(_REPOSITORY, weights) else None

    def folder_of(self, size: str, step: int) -> Path:
        """Folder of a checkpoint of a suite in a folder, whether or not it exists.

        Raises
        ------
        NotFoundError
            The suite is no folder on this machine, or has none for this size.
        """
        if self.root is None:
            raise NotFoundError(f"suite '{self.name}' is not a folder on this machine; name one")
        home = self.root / self.size(size).weights
        if not home.is_dir():
            asked = self.size(size).weights
            hint = f"; a repository is written '{_HUB}{asked}'"
            raise NotFoundError(
                f"no checkpoints of {self.name} {size}: no folder '{home}'"
                + (hint if re.fullmatch(_REPOSITORY, asked) else "")
            )
        name = self.revision_of(step)
        return next(iter(sorted(home.glob(name))), home / name)


def _pattern(revision: str) -> str:
    """Regular expression for names of checkpoints."""
    named = re.sub(r"\\\{label(:0\d+)?\\\}", r"(?P<label>\\d+)", re.escape(revision))
    return named.replace(r"\{tokens\}", r"(?P<n>\d+)")


def _shown(value: object) -> str:
    try:
        text = str(value)
    except ValueError:  # Python prints no whole number of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
