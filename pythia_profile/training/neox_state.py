"""GPT-NeoX checkpoints with optimizer state, as the trainer here takes them: weights and moments.

In: a folder as GPT-NeoX saves it,

    layer_00-model_{m}-model_states.pt               weights of each layer, in training precision
    zero_pp_rank_{r}_mp_rank_{m}_optim_states.pt     ZeRO's r-th piece: float32 weights, moments

and a Hugging Face configuration. Out: a run of `loop`, `step{N}` with its moments, to resume or to
fork from: a published model becomes the start of a counterfactual.

ZeRO lays the parameters of a group end to end, pads the end, and cuts it into equal pieces. Groups
are weights, then biases and layer norms, each in the order of the layers. That this is so is
checked: the pieces' float32 weights must round to the layers' own.

Model-parallel ranks m hold parts of a layer: of its first axis (embedding, head, query-key-value,
first feed-forward), of its second (dense, second feed-forward), or copies (layer norms: their mean
is taken). Biases behind a split second axis are copies, too, but with parallel residuals each rank
adds its own before the parts are summed, so that the model's is their sum. Their moments are alike.

Files are unpickled without running code: tensors and plain values only; classes of DeepSpeed, which
hold its settings, become empty stand-ins, and any other class is refused.

Sources: EleutherAI/gpt-neox, `tools/ckpts/convert_neox_to_hf.py` and `megatron/model/utils.py`;
microsoft/DeepSpeed, `runtime/zero/stage_1_and_2.py` and `utils/zero_to_fp32.py`.
"""

import logging
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals
from transformers import AutoConfig, GPTNeoXForCausalLM

from pythia_profile.errors import ProfileError
from pythia_profile.training.loop import TrainingState, save_state, start
from pythia_profile.training.settings import Recipe

__all__ = ["NeoxStateError", "convert_neox", "read_neox"]

log = logging.getLogger(__name__)

Tensors = dict[str, torch.Tensor]

_LAYER = "layer_{:02d}-model_{:02d}-model_states.pt"
_PIECE = re.compile(r"zero_pp_rank_(\d+)_mp_rank_(\d+)_optim_states\.pt$")
_OF_DEEPSPEED = ("deepspeed.", "deeperspeed.")
_NOT_LEARNED = ("rotary_emb.inv_freq", "attention.masked_bias", "attention.bias")
_MOMENTS = ("exp_avg", "exp_avg_sq")
_FIRST_AXIS = (
    *("embed_in.weight", "embed_out.weight", "query_key_value.weight", "query_key_value.bias"),
    *("dense_h_to_4h.weight", "dense_h_to_4h.bias"),
)
_SECOND_AXIS = ("attention.dense.weight", "dense_4h_to_h.weight")
_SUMMED = ("attention.dense.bias", "dense_4h_to_h.bias")
_ROUNDING = {torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7, torch.float32: 0.0}
"""Largest relative error of a weight that was rounded to the training precision."""
_SUBNORMAL = 2.0**-24


class NeoxStateError(ProfileError):
    """A folder is no whole GPT-NeoX checkpoint, or not one that can be read here."""

    exit_code = 2


class _StandIn:
    """What becomes of a class that a file names and that is not run."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


def convert_neox(
    folder: Path | str, config: Path | str, run: Path | str, *, recipe: Recipe | None = None
) -> int:
    """Write a GPT-NeoX checkpoint as a step of a run; return the step.

    Parameters
    ----------
    folder : `global_step{N}` of a run, of one model-parallel rank or several.
    config : `config.json` of the same model in Hugging Face form, or its folder.
    run : folder of the run to write; `load_state(run, step, recipe)` goes on from it.
    recipe : of the optimizer, only its decays; of no weight here unless given.

    Raises
    ------
    NeoxStateError
        Files are missing or of another form, name classes that are not DeepSpeed's, hold more or
        fewer numbers than the model, or weights that are not those of the layers.
    """
    step, weights, moments = read_neox(folder, config)
    model = GPTNeoXForCausalLM(AutoConfig.from_pretrained(str(config), dtype="float32"))
    named = _named_as(model, weights)
    for name, own in model.named_parameters():
        if name not in named or named[name].shape != own.shape:
            got = list(named[name].shape) if name in named else "nothing"
            raise NeoxStateError(
                f"'{folder}': '{name}' has shape {got}, the configuration says {list(own.shape)}; "
                "it is of another model, or of another number of ranks"
            )
    model.load_state_dict(named, strict=True)
    plain = recipe or Recipe(steps=max(step, 1), batch_size=1, peak_lr=1e-3)
    state = start(model, plain, step=step)
    renamed = {kind: _named_as(model, values) for kind, values in moments.items()}
    for name, parameter in model.named_parameters():
        state.optimizer.state[parameter] = {
            "step": torch.tensor(float(step)),
            **{kind: values[name].clone() for kind, values in renamed.items()},
        }
    save_state(TrainingState(model, state.optimizer, step), Path(run))
    return step


def read_neox(folder: Path | str, config: Path | str) -> tuple[int, Tensors, dict[str, Tensors]]:
    """Read step, float32 weights, and both moments, each by the name of its parameter."""
    home = Path(folder)
    if not home.is_dir():
        raise NeoxStateError(f"no folder '{home}'; expected global_step… of a GPT-NeoX run")
    shape = AutoConfig.from_pretrained(str(config))
    parts, pieces = [], list[dict[str, Any]]()
    for rank in range(_model_ranks(home)):
        rounded = dict(_layer_weights(home, shape.num_hidden_layers, rank))
        own = _pieces(home, rank)
        whole = {
            "fp32": [_joined(home, [piece["fp32"][g] for piece in own]) for g in (0, 1)],
            **{
                kind: [_joined(home, [piece["moments"][g][kind] for piece in own]) for g in (0, 1)]
                for kind in _MOMENTS
            },
        }
        found = {kind: _cut(home, flat, rounded) for kind, flat in whole.items()}
        _check_weights(home, found["fp32"], rounded)
        parts.append(found)
        pieces += own
    own_biases = bool(getattr(shape, "use_parallel_residual", True))
    if len(parts) > 1 and own_biases:
        log.warning(
            "'%s': of %d model-parallel ranks each moved its own output biases, which add up; from "
            "here on the sum is moved once a step, %d times slower",
            *(home, len(parts), len(parts)),
        )
    moments = {kind: _merged([part[kind] for part in parts]) for kind in _MOMENTS}
    weights = _merged([part["fp32"] for part in parts], own_biases=own_biases)
    return _step(home, pieces), weights, moments


def _model_ranks(home: Path) -> int:
    """Count the model-parallel ranks, the same of the layers as of the optimizer's pieces."""
    layers = len(list(home.glob("layer_00-model_*-model_states.pt")))
    parts = {int(found[2]) for path in home.iterdir() if (found := _PIECE.search(path.name))}
    if layers and parts and parts != set(range(layers)):
        raise NeoxStateError(
            f"'{home}': layers of {layers} model-parallel ranks, pieces of ranks {sorted(parts)}; "
            "the checkpoint is not whole"
        )
    return max(layers, 1)


def _merged(parts: list[Tensors], *, own_biases: bool = False) -> Tensors:
    """Join what model-parallel ranks hold of each tensor; one rank's stays as it is.

    Parameters
    ----------
    own_biases : whether biases behind a split second axis add up over the ranks.
    """
    found: Tensors = {}
    for name in parts[0] if len(parts) > 1 else ():
        held = [part[name] for part in parts]
        if name.endswith(_FIRST_AXIS):
            found[name] = torch.cat(held)
        elif name.endswith(_SECOND_AXIS):
            found[name] = torch.cat(held, dim=1)
        else:
            total = torch.stack(held).sum(dim=0)
            found[name] = total if own_biases and name.endswith(_SUMMED) else total / len(parts)
    return found or parts[0]


def _layer_weights(home: Path, layers: int, rank: int) -> Iterator[tuple[str, torch.Tensor]]:
    """Weights of the layers of one model-parallel rank, in order, by Hugging Face's names."""
    names = {0: {"word_embeddings.weight": "gpt_neox.embed_in.weight"}}
    names |= {layers + 3: {f"norm.{w}": f"gpt_neox.final_layer_norm.{w}" for w in _WB}}
    names |= {layers + 4: {"final_linear.weight": "embed_out.weight"}}
    for number in (0, *range(2, layers + 2), layers + 3, layers + 4):
        path = home / _LAYER.format(number, rank)
        content = _unpickled(path)
        for name, values in content.items():
            if name.endswith(_NOT_LEARNED):
                continue
            known = names.get(number)
            if known is not None and name not in known:
                raise NeoxStateError(f"'{path}': got '{name}', expected {', '.join(known)}")
            yield known[name] if known else f"gpt_neox.layers.{number - 2}.{name}", values


_WB = ("weight", "bias")


def _unpickled(path: Path) -> dict[str, Any]:
    """Read a file without running code that it may hold."""
    if not path.is_file():
        raise NeoxStateError(f"'{path}' is missing; the checkpoint is not whole")
    try:
        named = get_unsafe_globals_in_checkpoint(str(path))
        if foreign := [name for name in named if not name.startswith(_OF_DEEPSPEED)]:
            raise NeoxStateError(
                f"'{path}' names {', '.join(sorted(foreign))}, which would run code; expected "
                "tensors and plain values"
            )
        with safe_globals([(_StandIn, name) for name in named]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise NeoxStateError(f"'{path}' cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise NeoxStateError(f"'{path}': got {type(content).__name__}, expected a dictionary")
    return content


def _pieces(home: Path, part: int) -> list[dict[str, Any]]:
    """ZeRO's pieces of a model-parallel rank, in order: of each group float32 weights, moments."""
    found = {
        int(match[1]): path
        for path in sorted(home.iterdir())
        if (match := _PIECE.search(path.name)) and int(match[2]) == part
    }
    if not found:
        raise NeoxStateError(f"'{home}' has no zero_pp_rank_…_optim_states.pt; no optimizer state")
    ranks = sorted(found)
    if ranks != list(range(len(ranks))):
        raise NeoxStateError(f"'{home}': pieces of ranks {ranks}, expected 0 to {len(ranks) - 1}")
    pieces = []
    for rank in ranks:
        path = found[rank]
        content = _unpickled(path).get("optimizer_state_dict", {})
        asked = content.get("partition_count", len(ranks))
        count = max(asked) if isinstance(asked, list | tuple) else asked
        if count != len(ranks):
            raise NeoxStateError(f"'{home}': {len(ranks)} pieces, '{path.name}' is one of {count}")
        if "single_partition_of_fp32_groups" not in content:
            raise NeoxStateError(
                f"'{path}': no 'single_partition_of_fp32_groups', got {', '.join(content)}; "
                "checkpoints of DeepSpeed before 0.4 cut their groups in another way"
            )
        moments = _moments(path, content.get("base_optimizer_state"))
        weights = content["single_partition_of_fp32_groups"]
        if not len(weights) == len(moments) == 2:
            raise NeoxStateError(
                f"'{path}': {len(weights)} groups of weights and {len(moments)} of moments, "
                "expected two of each: weights, then biases and layer norms"
            )
        pieces.append({"fp32": weights, "moments": moments})
    return pieces


def _moments(path: Path, state: Any) -> list[dict[str, Any]]:
    """Moments of each group, of a state that keeps its degree of parallelism or may change it."""
    groups = state
    if isinstance(state, dict):
        held = state.get("state", {})
        groups = [held[key] for key in sorted(held)] if isinstance(held, dict) else None
    if not isinstance(groups, list) or not all(
        isinstance(group, dict) and {*_MOMENTS} <= group.keys() for group in groups
    ):
        raise NeoxStateError(f"'{path}': 'base_optimizer_state' holds no exp_avg and exp_avg_sq")
    return groups


def _joined(home: Path, parts: list[Any]) -> torch.Tensor:
    if not all(isinstance(part, torch.Tensor) for part in parts):
        raise NeoxStateError(f"'{home}': a piece of the optimizer is no tensor")
    return torch.cat([part.detach().float().flatten() for part in parts])


def _cut(home: Path, flat: list[torch.Tensor], like: Tensors) -> Tensors:
    """Cut the two groups into parameters of the shapes of `like`; what is left over is padding."""
    found: Tensors = {}
    for small, values in enumerate(flat):
        names = [name for name in like if _is_small(name) == bool(small)]
        needed = sum(like[name].numel() for name in names)
        if len(values) < needed or values[needed:].any():
            raise NeoxStateError(
                f"'{home}': the pieces of group {small} hold {len(values):,} numbers, the model "
                f"has {needed:,}, and what is left must be padding; is a piece missing?"
            )
        begin = 0
        for name in names:
            end = begin + like[name].numel()
            found[name] = values[begin:end].reshape(like[name].shape)
            begin = end
    return {name: found[name] for name in like}


def _is_small(name: str) -> bool:
    """Whether a parameter is a bias or of a layer norm, which are not decayed."""
    return name.endswith(".bias") or "norm" in name


def _check_weights(home: Path, weights: Tensors, rounded: Tensors) -> None:
    """Refuse float32 weights that do not round to those of the layers."""
    for name, values in weights.items():
        own = rounded[name]
        allowed = _ROUNDING.get(own.dtype, 2.0**-7)
        apart = (values - own.float()).abs() - allowed * values.abs() - _SUBNORMAL
        if not (apart <= 0).all():  # not a number is neither
            raise NeoxStateError(
                f"'{home}': '{name}' of the optimizer is not that of the layer, by up to "
                f"{float((values - own.float()).abs().max()):.3g}; these files are of different "
                "steps, or their parameters lie in another order"
            )


def _step(home: Path, pieces: list[dict[str, Any]]) -> int:
    """Step of the checkpoint: of the optimizer where it says so, else of the folder's name."""
    named = re.search(r"(\d+)$", home.name)
    said = [int(group["step"]) for piece in pieces for group in piece["moments"] if "step" in group]
    if said and len({*said}) > 1:
        raise NeoxStateError(f"'{home}': pieces of steps {sorted({*said})}, expected one")
    if not said and named is None:
        raise NeoxStateError(f"'{home}': no step in the files or the name; expected global_step…")
    # steps that overflowed in half precision are skipped by the optimizer, not by the run
    return int(named[1]) if named else said[0]


def _named_as(model: GPTNeoXForCausalLM, values: Tensors) -> Tensors:
    """Name tensors as this version of transformers does, which calls the output head `lm_head`."""
    own = model.state_dict()
    return {
        name if name in own else name.replace("embed_out.", "lm_head."): value
        for name, value in values.items()
    }
