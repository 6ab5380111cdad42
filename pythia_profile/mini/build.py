"""The mini suite on disk: made once, kept in the user's cache, reused by every later study.

    mini-<key>/
      suite.toml  tokenizer.json  config.json
      document.bin  document.idx        rows in training order, then never-treated rows
      spare.bin  spare.idx              rows that replace a cohort in a counterfactual run
      xs/step0 ... xs/step512           Hugging Face folders
      xs/optimizer/step32.safetensors   AdamW's moments, to resume and to fork from

The key is a hash of the settings, the corpus and the training libraries. Sizes are trained when
they are first asked for, each in a process of its own on one thread; a build that was killed goes
on at the last checkpoint of each size.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path

from data_order.store.megatron import MegatronStore
from pythia_profile.errors import check_kind
from pythia_profile.execute.executors import map_units
from pythia_profile.execute.resources import on_cores
from pythia_profile.execute.time_left import Part, model_cost
from pythia_profile.mini.config import MINI_SIZES, MiniConfig, shape
from pythia_profile.mini.corpus import Corpus, read_corpus, token_rows, train_tokenizer
from pythia_profile.progress import track
from pythia_profile.store import atomic_write, make_folder, read_json, remove_leftovers, write_json
from pythia_profile.suites.folder import read_suite, write_suite
from pythia_profile.suites.model import Size, Suite
from pythia_profile.suites.registry import SuiteEntry

__all__ = ["ENTRY", "cache_folder", "config_of", "mini_suite"]


def cache_folder() -> Path:
    """Folder in which suites are kept: the user's cache directory, `pythia-profile` in it."""
    return user_cache_path("pythia-profile")


def mini_suite(
    sizes: Sequence[str] = tuple(MINI_SIZES),
    *,
    seed: int = 0,
    config: MiniConfig | None = None,
    cache: Path | None = None,
    workers: int | None = None,
) -> Suite:
    """Return the mini suite of `sizes`; train what is missing.

    Parameters
    ----------
    sizes : of xs, s, m, l, or one of them; for none, those that are trained already.
    seed : of corpus, order and weights; ignored when `config` is given.
    config : settings other than the defaults.
    cache : folder in which suites are kept; the user's cache directory by default.
    workers : training processes at a time; the available cores by default. No number depends on it.

    Raises
    ------
    CorpusError
        The standard library holds too little text.
    NotFoundError
        A size that the mini suite does not have.
    """
    config = config or MiniConfig(seed=seed)
    check_kind(sizes, (str, list, tuple), "sizes", f"names among {', '.join(MINI_SIZES)}")
    sizes = (sizes,) if isinstance(sizes, str) else tuple(sizes)
    for size in sizes:
        shape(size)
    corpus = read_corpus(config)
    home = (cache or cache_folder()) / f"mini-{config.key(corpus.sha256)}"
    make_folder(home)
    with FileLock(home / ".lock"):
        remove_leftovers(home)
        _prepare(home, config, corpus)
        _train(home, config, sizes, workers)
        described = describe(home, config)
        if not (home / "suite.toml").exists() or read_suite(home) != described:
            write_suite(described, home)
    chosen = {size: described.sizes[size] for size in MINI_SIZES if size in sizes}
    return replace(described, sizes=chosen or described.sizes)


def config_of(suite: Suite) -> MiniConfig:
    """Return the settings with which a mini suite was made."""
    return MiniConfig(**read_json(_root(suite) / "config.json"))


def describe(home: Path | None, config: MiniConfig) -> Suite:
    """Return what `suite.toml` says: the sizes of which every checkpoint is in `home`.

    Without a `home`, all sizes are described.
    """
    trained = [size for size in MINI_SIZES if home is None or is_trained(home, size, config)]
    return Suite(
        name="mini",
        title="tiny GPT-NeoX models trained on this machine on Python's standard library",
        batch_size=config.batch_size,
        steps=config.steps,
        row_tokens=config.row_tokens,
        vocabulary=config.vocabulary,
        schedule="neox_v1",
        warmup_steps=config.warmup_steps,
        seed=config.seed,
        sizes={size: _size(size, config) for size in trained},
        root=home,
        store="document",
        tokenizer="tokenizer.json",
        single_pass=True,
        study_defaults={
            "rows_per_cohort": min(96, config.batch_size * config.interval),
            "batches_per_cohort": 0,
            "never_treated": config.never_treated,
        },
    )


def is_trained(home: Path, size: str, config: MiniConfig) -> bool:
    """Whether every checkpoint of `size` is on disk."""
    return all((home / size / f"step{step}").is_dir() for step in config.checkpoints)


def _prepare(home: Path, config: MiniConfig, corpus: Corpus) -> None:
    """Write tokenizer, rows and settings, the settings last."""
    if (home / "config.json").exists():
        return
    tokenizer = train_tokenizer(corpus.texts, config.vocabulary)
    rows = token_rows(corpus, tokenizer, config)
    with atomic_write(home / "tokenizer.json") as file:
        file.write(tokenizer.to_str().encode())
    read_or_control = config.training_rows + config.never_treated
    MegatronStore.write(home / "document", rows[:read_or_control], documents=[0])
    MegatronStore.write(home / "spare", rows[read_or_control:], documents=[0])
    write_json(asdict(config), home / "config.json")


def _train(home: Path, config: MiniConfig, sizes: Sequence[str], workers: int | None) -> None:
    from pythia_profile.mini.train import TrainingUnit, train_size

    missing = [size for size in sizes if not is_trained(home, size, config)]
    if not missing:
        return
    largest_first = sorted(missing, key=list(MINI_SIZES).index, reverse=True)
    units = [TrainingUnit(home, size) for size in largest_first]
    costs = {size: model_cost(_size(size, config).parameters) for size in missing}
    parts = [Part(unit.name, unit.size, config.steps, costs[unit.size]) for unit in units]
    total, resources = len(missing) * config.steps, on_cores(workers)
    title = f"training {', '.join(missing)}"
    with track(title, total, "steps", parts=parts, workers=len(resources.devices)) as task:
        map_units(train_size, units, resources, on_part=task.advance_part)


def _size(size: str, config: MiniConfig) -> Size:
    form = shape(size)
    embeddings = 2 * config.vocabulary * form.width
    layer = 12 * form.width**2 + 13 * form.width
    return Size(
        name=size,
        layers=form.layers,
        width=form.width,
        heads=form.heads,
        parameters=embeddings + form.layers * layer + 2 * form.width,
        peak_lr=config.peak_lr,
        min_lr=config.min_lr,
        precision="float32",
        weights=size,
        checkpoints=config.checkpoints,
    )


def _root(suite: Suite) -> Path:
    return suite.root or Path(sys.prefix)


ENTRY = SuiteEntry(
    facts=lambda: describe(None, MiniConfig()),
    open=lambda sizes, seed: mini_suite(sizes or tuple(MINI_SIZES), seed=seed),
    there=lambda seed: mini_suite((), seed=seed),
)
"""How the registry of suites finds this one."""
