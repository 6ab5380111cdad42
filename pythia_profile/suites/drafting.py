"""A `suite.toml` for a run of one's own, drafted from what lies in its folder.

In: a folder with checkpoints (`{size}/step1000/config.json`, or without sizes), rows or token
files, perhaps a `tokenizer.json`. Out: the text of a commented file, in which what no file tells is
0 for the user to fill in. Nothing is loaded: shapes come from configurations and from headers of
weights.
"""

import json
import math
import re
import struct
from collections import Counter
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from data_order.errors import OrderError
from data_order.store.files import read_npy_header
from data_order.store.idx import read_index
from pythia_profile.suites.folder import template

__all__ = ["KINDS", "Given", "Kind", "draft"]

Kind = Literal["neox", "megatron", "core", "plain"]


@dataclass(frozen=True, slots=True)
class _Trainer:
    """What a kind of run usually looks like.

    Attributes
    ----------
    about : comment at the head of the file.
    revision : name of a checkpoint's folder.
    schedule : name in `SCHEDULES`.
    """

    about: str
    revision: str
    schedule: str


_DOCUMENTS = (
    "Rows in training order follow from the documents and the data seed:\n"
    "  pythia-profile rows {folder}/rows --documents CORPUS --seed SEED{more} --batch-size B "
    "--steps S\n"
    "writes them, and rows past the last step as controls."
)
KINDS: dict[Kind, _Trainer] = {
    "neox": _Trainer(
        "A GPT-NeoX run, its checkpoints converted by `tools/ckpts/convert_neox_to_hf.py`.\n"
        + _DOCUMENTS.replace("{more}", " --split 969,30,1")
        + "\nLeave out --split where the configuration names train_data_paths.",
        "global_step{label}",
        "neox_current",
    ),
    "megatron": _Trainer(
        "A Megatron-LM run, its checkpoints converted to Hugging Face folders.\n"
        + _DOCUMENTS.replace("{more}", " --split 969,30,1"),
        "iter_{label:07}",
        "neox_current",
    ),
    "core": _Trainer(
        "An OLMo-core run, its checkpoints converted by `src/examples/huggingface`. Its order "
        "follows\nfrom its token files, their sizes and the data loader's seed, below.",
        "step{label}",
        "olmo_cosine",
    ),
    "plain": _Trainer(
        "A run by a loop of one's own: rows in the order in which it read them, as .npy (n, "
        "tokens)\nor .idx and .bin; rows past the last step are controls. Peak rates of 0: not "
        "known.",
        "step{label}",
        "olmo_cosine",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the user states of the run; None for what the file is to leave open."""

    batch_size: int | None = None
    steps: int | None = None
    seed: int | None = None
    peak_lr: float | None = None
    warmup_steps: int | None = None


@dataclass(slots=True)
class _Model:
    """Checkpoints of one size, as they lie in the folder."""

    weights: str
    revision: str = ""
    steps: list[int] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    parameters: int = 0
    precision: str = "float32"


def draft(folder: Path, kind: Kind, given: Given) -> str:
    """Return the text of a `suite.toml` for what lies in `folder`.

    Parameters
    ----------
    kind : trainer of the run.
    """
    trainer, models = KINDS[kind], _models(folder)
    tokens, store, files = _rows(folder, kind)
    known = next((model for model in models.values() if model.revision), None)
    first = next(iter(models.values()), _Model("s"))
    batch, steps = given.batch_size or 0, given.steps or 0
    warmup = given.warmup_steps or 0
    values: dict[str, Any] = {
        "name": re.sub(r"[^A-Za-z0-9._-]", "-", folder.resolve().name).lstrip("._-") or "mine",
        "title": f"models of our own ({kind})",
        "batch_size": batch,
        "steps": steps or max(chain.from_iterable(m.steps for m in models.values()), default=0),
        "row_tokens": tokens,
        "vocabulary": first.config.get("vocab_size", 0),
        "schedule": trainer.schedule,
        "warmup_steps": warmup,
        "seed": 0,
        "store": store,
        "revision": known.revision if known is not None else trainer.revision,
    }
    head, _, _ = template().partition("# one section for each model")
    for name, value in values.items():
        line = f"{name} = {_toml(value)}".replace("\\", r"\\")
        head = re.sub(rf"^{name} = .*$", line, head, flags=re.MULTILINE)
    if not (folder / "tokenizer.json").is_file():
        head = head.replace('tokenizer = "tokenizer.json"', '# tokenizer = "tokenizer.json"')
    head = head.replace("single_pass = true", "# single_pass = true")
    if given.seed is not None and kind != "core":
        head = head.replace("seed = 0\n", f"seed = 0\n\n# data seed\ndata_seed = {given.seed}\n", 1)
    about = "".join(
        f"# {line}\n" for line in trainer.about.replace("{folder}", str(folder)).split("\n")
    )
    parts = [f"{about}# What is 0 is to be filled in, except rates that are not known.\n\n{head}"]
    if kind == "core":
        parts.append(_token_files(files, given.seed))
    parts.append('# one section for each model; weights are a folder here, or "hf://owner/name"\n')
    parts += [_section(name, model, given) for name, model in models.items()]
    if not models:
        parts.append(_section("s", _Model("s"), given))
    return "".join(parts)


def _toml(value: Any) -> str:
    return json.dumps(value) if isinstance(value, str) else str(value)


def _section(name: str, model: _Model, given: Given) -> str:
    config, peak = model.config, given.peak_lr or 0.0
    values = {
        "name": name,
        "layers": config.get("num_hidden_layers", 0),
        "width": config.get("hidden_size", 0),
        "heads": config.get("num_attention_heads", 0),
        "parameters": model.parameters,
        "peak_lr": peak,
        "min_lr": peak / 10,
        "precision": model.precision,
        "weights": model.weights,
    }
    lines = [f"{key} = {_toml(value)}" for key, value in values.items()]
    return "\n".join([f"[sizes.{_toml(name)}]", *lines, f"checkpoints = {model.steps}", "", ""])


def _token_files(files: list[str], seed: int | None) -> str:
    listed = "".join(f"    {_toml(name)},\n" for name in files)
    return (
        "# token files below the store, in the order of the run's configuration (not sorted; one "
        "that is\n# listed twice counts twice); seed of the data loader; rows that stay together: "
        "target row\n# length over row length; whether rows with long repetitions were masked\n"
        f"[token_files]\npaths = [\n{listed}]\nseed = {seed or 0}\ntoken_bytes = 4\n"
        "first_pass = 1\ntogether = 1\nfiltered = false\n\n"
    )


def _models(folder: Path) -> dict[str, _Model]:
    """Sizes by name: folders of checkpoint folders, or the folder itself."""
    found: dict[str, _Model] = {}
    for config in sorted([*folder.glob("*/config.json"), *folder.glob("*/*/config.json")]):
        home, number = config.parent.parent, re.fullmatch(r"(\D*?)(\d+)(\D*)", config.parent.name)
        if number is None:
            continue
        own = home == folder
        name = "model" if own else home.name
        model = found.setdefault(name, _Model("." if own else home.name))
        model.steps.append(int(number[2]))
        padded = f":0{len(number[2])}" if re.match(r"0\d", number[2]) else ""
        revision = f"{number[1]}{{label{padded}}}{number[3]}"
        if not model.config:
            model.config, model.revision = _read(config), revision
            model.parameters, model.precision = _header(config.parent)
        elif padded:
            model.revision = revision
    for model in found.values():
        model.steps = sorted({*model.steps})
    return found


def _read(config: Path) -> dict[str, Any]:
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        return {}
    known = content if isinstance(content, dict) else {}
    wanted = ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size")
    return {name: known[name] for name in wanted if isinstance(known.get(name), int)}


def _header(folder: Path) -> tuple[int, str]:
    """Parameters and precision of a checkpoint, from the headers of its safetensors files."""
    count, kinds = 0, Counter[str]()
    names = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with path.open("rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                header = json.loads(file.read(min(length, 1 << 26)))
            for name, tensor in header.items():
                if name != "__metadata__":
                    size = math.prod(tensor["shape"])
                    count += size
                    kinds[tensor["dtype"]] += size
        except (OSError, ValueError, struct.error, KeyError, TypeError, AttributeError):
            return 0, "float32"
    most = kinds.most_common(1)
    return count, names.get(most[0][0], "float32") if most else "float32"


def _rows(folder: Path, kind: Kind) -> tuple[int, str, list[str]]:
    """Tokens of a row, store, and token files, as far as the folder tells."""
    if kind == "core":
        files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.npy"))
        return 0, ".", files
    for path in sorted(folder.glob("*.idx")):
        try:
            size = read_index(path).size
        except OrderError:
            continue
        if size is not None:
            return size, path.with_suffix("").name, []
    for path in sorted(folder.glob("*.npy")):
        try:
            return int(read_npy_header(path).shape[1]), path.name, []
        except OrderError:
            continue
    return 0, "rows", []
