"""What a config.json states of a model, read without torch: whether it can be loaded at all.

Seven hundred bytes tell that a model is of an unsupported architecture, before gigabytes are
fetched.
"""

from typing import Any

__all__ = ["MODEL_TYPES", "config_fault"]

MODEL_TYPES = ("gpt_neox", "gpt_bigcode", "llama", "olmo", "olmo2", "olmo3")
"""Architectures whose token statistics are understood."""

_MOST_LAYERS = 1024


def config_fault(config: Any) -> str:
    """Reason why a model of this configuration is not loaded; empty where nothing speaks against.

    Examples
    --------
    >>> config_fault({"model_type": "mamba"})
    "model_type is 'mamba', expected one of gpt_neox, gpt_bigcode, llama, olmo, olmo2, olmo3"
    >>> config_fault({"model_type": "gpt_neox", "num_hidden_layers": 6})
    ''
    """
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind not in MODEL_TYPES:
        return f"model_type is {kind!r}, expected one of {', '.join(MODEL_TYPES)}"
    if "auto_map" in config:
        return "it asks for code of its own ('auto_map'); refused"
    if config.get("quantization_config"):
        return (
            "it has a quantization_config, and quantized weights are another model; use the "
            "checkpoint that was quantized"
        )
    for name in ("num_hidden_layers", "n_layer"):
        layers = config.get(name)
        if isinstance(layers, int) and not 0 < layers <= _MOST_LAYERS:
            return f"{name} is {layers:,}, expected 1 to {_MOST_LAYERS}"
    return ""
