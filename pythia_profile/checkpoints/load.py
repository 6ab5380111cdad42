"""Strict loading: the checkpoint's own tensors, all of them, or an error; never random weights.

Only from a local folder, only architectures known here, no remote code. One model is kept, and the
next checkpoint of the same architecture is put into it tensor by tensor, which saves the
construction and any second copy on the device. On the CPU, tensors that are stored in the wanted
precision are used where they lie in the file, without a copy.
"""

import math
import os
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ["DISABLE_SAFETENSORS_CONVERSION"] = "1"  # transformers would ask another host to convert

import torch
from transformers import (
    AutoConfig,
    GPTBigCodeForCausalLM,
    GPTNeoXForCausalLM,
    LlamaForCausalLM,
    Olmo2ForCausalLM,
    Olmo3ForCausalLM,
    OlmoForCausalLM,
)
from transformers.initialization import no_init_weights
from transformers.modeling_utils import PreTrainedModel

from pythia_profile.checkpoints.architecture import config_fault
from pythia_profile.checkpoints.small_files import read_json_file
from pythia_profile.checkpoints.weights import CheckpointError, find_weights, tensors

__all__ = ["DTYPES", "CheckpointLoader"]

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
"""Precisions in which a model may be run; one for a whole panel."""

_CLASSES: dict[str, type[PreTrainedModel]] = {
    "gpt_neox": GPTNeoXForCausalLM,
    "gpt_bigcode": GPTBigCodeForCausalLM,
    "llama": LlamaForCausalLM,
    "olmo": OlmoForCausalLM,
    "olmo2": Olmo2ForCausalLM,
    "olmo3": Olmo3ForCausalLM,
}
_RENAMED = {"embed_out.weight": "lm_head.weight"}
_OLD_BUFFERS = re.compile(r"((attention|(?<!\w)attn)\.(bias|masked_bias)|rotary_emb\.inv_freq)$")
_FORWARD = (
    "model_type",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "layer_types",
    "sliding_window",
    "hidden_act",
    "attention_bias",
    "mlp_bias",
    "clip_qkv",
    "layer_norm_eps",
    "rms_norm_eps",
    "rope_parameters",
    "tie_word_embeddings",
    "use_parallel_residual",
    # GPT-BigCode names its shape in its own way
    "n_embd",
    "n_inner",
    "n_layer",
    "n_head",
    "activation_function",
    "layer_norm_epsilon",
    "multi_query",
    "scale_attn_weights",
)
_BUILDING = threading.Lock()
"""Initialization is switched off for the whole process, so models are built one at a time."""

_COPYING = 2
"""Large tensors that are copied side by side; more would wait for the memory."""

_LARGE = 2**18
"""Entries from which on a tensor is worth a thread."""

_NOT_ARCHITECTURE = {"attn_implementation", "dtype", "torch_dtype", "transformers_version"}


@dataclass(slots=True)
class CheckpointLoader:
    """Loads checkpoints of one architecture after the other into one model.

    Attributes
    ----------
    dtype, device, attention : stated, recorded, the same for a whole panel.
    """

    dtype: str = "float32"
    device: str = "cpu"
    attention: str = "sdpa"
    _model: PreTrainedModel | None = field(default=None, repr=False)
    _architecture: dict[str, Any] = field(default_factory=dict, repr=False)
    _borrowed: set[str] = field(default_factory=set, repr=False)

    @property
    def architecture(self) -> dict[str, Any]:
        """What of the loaded configuration changes a forward pass, with defaults filled in."""
        config = {} if self._model is None else self._model.config.to_dict()
        return {name: config[name] for name in _FORWARD if name in config}

    def load(self, folder: Path) -> PreTrainedModel:
        """Return the model in `folder`, in eval mode; the model of an earlier call is overwritten.

        Raises
        ------
        CheckpointError
            A file or tensor is missing, unexpected, damaged or of another shape.
        """
        architecture = _read_architecture(folder)
        if self._model is None or architecture != self._architecture:
            self._model = None
            self._borrowed.clear()
            self._model = _empty_model(folder, architecture, self)
            self._architecture = architecture
        try:
            with _one_thread():
                _put_weights(self._model, folder, self._borrowed)
                _check_rotary(self._model, folder)
        except CheckpointError:
            self._model = None
            raise
        return self._model


def _read_architecture(folder: Path) -> dict[str, Any]:
    config = read_json_file(folder / "config.json")
    fault = config_fault(config)
    if fault:
        raise CheckpointError(f"{folder / 'config.json'}: {fault}")
    return {
        name: value
        for name, value in config.items()
        if name not in _NOT_ARCHITECTURE and not name.startswith("_")
    }


def _empty_model(
    folder: Path, architecture: dict[str, Any], loader: CheckpointLoader
) -> PreTrainedModel:
    try:
        config = AutoConfig.for_model(**architecture)
        config._attn_implementation = loader.attention
        with _BUILDING, no_init_weights():
            model = _CLASSES[config.model_type](config)
    except Exception as error:  # whatever a value of the wrong kind leads to
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(
            f"{folder / 'config.json'} does not describe a model: {reason}"
        ) from error
    dtype = DTYPES[loader.dtype]
    for parameter in model.parameters():  # buffers keep their precision, as the rotary ones must
        parameter.data = torch.empty_like(parameter, dtype=dtype, device=loader.device)
    model.tie_weights()
    model.requires_grad_(False).to(loader.device)  # type: ignore[arg-type]
    model.eval()
    return model


def _put_weights(model: PreTrainedModel, folder: Path, borrowed: set[str]) -> None:
    """Fill every parameter from the folder's files.

    Parameters
    ----------
    borrowed : names of parameters that are tensors of a file and not the model's own memory.
    """
    wanted = dict(model.named_parameters(remove_duplicate=False))
    rotary = _rotary_frequencies(model.config)
    filled: dict[torch.nn.Parameter, str] = {}
    stored: dict[torch.dtype, dict[str, int]] = defaultdict(dict)
    faults: dict[str, list[str]] = defaultdict(list)
    with ThreadPoolExecutor(_COPYING) as pool:
        copies: dict[str, Future[str]] = {}
        for stored_name, value in tensors(find_weights(folder)):
            name = _RENAMED.get(stored_name, stored_name)
            parameter = wanted.get(name)
            if parameter is None:
                if not _OLD_BUFFERS.search(stored_name):
                    faults["unexpected"].append(stored_name)
                elif stored_name.endswith("inv_freq") and not _near(value, rotary):
                    faults["rotary frequencies not as by rope_theta"].append(stored_name)
                continue
            if parameter.shape != value.shape or not value.is_floating_point():
                got, expected = tuple(value.shape), tuple(parameter.shape)
                faults["mismatched"].append(
                    f"{stored_name} is {value.dtype} {got}, expected floats {expected}"
                )
            elif parameter in filled:
                # A tied or renamed parameter is stored twice: which one counts must not matter.
                for copy in copies.values():
                    copy.result()
                if not torch.equal(parameter, value.to(parameter)):
                    faults["stored twice and different"].append(
                        f"{filled[parameter]} and {stored_name}"
                    )
                continue
            else:
                stored[value.dtype][stored_name] = value.numel()
                large = value.numel() >= _LARGE
                put = pool.submit if large else _at_once
                copies[stored_name] = put(_put, parameter, value, name, borrowed)
            filled[parameter] = stored_name
        for stored_name, copy in copies.items():
            if what := copy.result():
                faults[what].append(stored_name)
    faults["missing"] = [name for name, parameter in wanted.items() if parameter not in filled]
    faults["stored with less precision than the rest"] = _less_precise(stored)
    _refuse(folder, faults)


def _at_once(function: Callable[..., str], *arguments: Any) -> Future[str]:
    done: Future[str] = Future()
    done.set_result(function(*arguments))
    return done


def _put(parameter: torch.nn.Parameter, value: torch.Tensor, name: str, borrowed: set[str]) -> str:
    """Fill a parameter; names what is wrong with the value, if anything is."""
    fits = value.dtype == parameter.dtype and value.device == parameter.device
    if fits and value.is_contiguous():
        parameter.data = value
        borrowed.add(name)
    elif name in borrowed:
        parameter.data = value.to(parameter.dtype, copy=True).contiguous()
        borrowed.discard(name)
    else:
        parameter.copy_(value)
    # One pass over the tensor: NaN and infinity show in the least and the largest value.
    wide = value.float() if value.element_size() == 1 else value
    low, high = (float(one) for one in torch.aminmax(wide)) if value.numel() else (0.0, 1.0)
    if not (math.isfinite(low) and math.isfinite(high)):
        return "NaN or infinity"
    return "all zero" if low == high == 0 and value.ndim > 1 else ""


def _less_precise(stored: Mapping[torch.dtype, Mapping[str, int]]) -> list[str]:
    """Tensors whose stored precision is below that of most entries: digits were lost on the way."""
    if len(stored) < 2:
        return []
    usual = max(stored, key=lambda dtype: sum(stored[dtype].values()))
    return [
        f"{name} ({dtype}, most are {usual})"
        for dtype, names in stored.items()
        if torch.finfo(dtype).eps > torch.finfo(usual).eps
        for name in names
    ]


def _rotary_frequencies(config: Any, name: str = "") -> torch.Tensor | None:
    """Rotary frequencies by their formula; None where they are scaled in some other way.

    Parameters
    ----------
    name : of a buffer, which says of which layers they are where kinds of layers differ (OLMo 3).
    """
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [kind for kind, of_kind in rope.items() if isinstance(of_kind, dict)]
    if kinds:
        rope = rope[next((kind for kind in kinds if kind in name), kinds[0])]
    if rope.get("rope_type") != "default":
        return None
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    width = int(head * rope.get("partial_rotary_factor", 1.0))
    powers = torch.arange(0, width, 2, dtype=torch.float64) / width
    frequencies: torch.Tensor = rope["rope_theta"] ** -powers
    return frequencies


def _near(found: torch.Tensor, frequencies: torch.Tensor | None, relative: float = 1e-2) -> bool:
    """Whether frequencies are those of the formula; stored ones may be rounded to half precision.

    A frequency below 6e-5 has fewer digits in float16, hence the absolute part.
    """
    if frequencies is None:
        return True
    return found.shape == frequencies.shape and torch.allclose(
        found.double().cpu(), frequencies, rtol=relative, atol=1e-6
    )


def _check_rotary(model: PreTrainedModel, folder: Path) -> None:
    """Refuse a model whose rotary buffers, which no file fills, are not those of its config."""
    for name, buffer in model.named_buffers():
        frequencies = _rotary_frequencies(model.config, name)
        if name.endswith("inv_freq") and not _near(buffer, frequencies, 1e-5):
            raise CheckpointError(
                f"'{folder}': the model's {name} is not what its config.json gives; its numbers "
                "would be finite and wrong; load it in a new process"
            )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Copy each tensor on one thread, and large ones side by side.

    Where two threads share a tensor, each copy ends in a barrier, at which one waits for the other
    to get a core: ten times slower where cores are shared.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _refuse(folder: Path, faults: Mapping[str, list[str]]) -> None:
    listed = [f"{kind}: {_some(names)}" for kind, names in faults.items() if names]
    if listed:
        raise CheckpointError(
            f"tensors in '{folder}' are not those of its config.json; {'; '.join(listed)}"
        )


def _some(names: list[str], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
