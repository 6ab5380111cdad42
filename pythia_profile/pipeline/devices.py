"""What devices are assumed to do: hours of a checkpoint before one of its size has been scored.

Nothing here was measured. Peaks and memory are the makers' data sheets (dense, without sparsity);
the shares of the peak are assumptions, each with its reason, and every plan prints those it used.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pythia_profile.errors import not_found

__all__ = ["DEVICE_NAMES", "Device", "Share", "device_named"]


@dataclass(frozen=True, slots=True)
class Share:
    """Share of a device's peak that models up to a number of parameters are assumed to reach."""

    below: float
    share: float
    reason: str


_LARGE = float("inf")
_GPU_SHARES = (
    Share(
        1e8,
        0.10,
        "launch- and bandwidth-bound: short kernels, and logits over the vocabulary are traffic "
        "rather than operations",
    ),
    Share(5e8, 0.20, "bandwidth-bound: narrow matrices, and logits are still much of the traffic"),
    Share(2e9, 0.35, "partly bandwidth-bound: norms, attention and logits beside the products"),
    Share(_LARGE, 0.45, "compute-bound: large matrix products; usual for forward passes"),
)
_CPU_SHARES = (
    Share(1e8, 0.25, "bandwidth-bound: logits over the vocabulary pass through memory"),
    Share(_LARGE, 0.50, "compute-bound: large matrix products; cores share caches and memory"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A kind of device, and what is assumed of it.

    Attributes
    ----------
    name, source : as `--device` names it; where its peaks come from.
    peaks : operations per second by dtype; of one core for a CPU.
    shares : of the peak, ascending by size of the model.
    memory : bytes; 0 for that of this machine.
    loading : bytes of weights per second that are read, hashed and copied to the device.
    """

    name: str
    source: str
    peaks: Mapping[str, float]
    shares: tuple[Share, ...]
    memory: int = 0
    loading: float = 0.5e9

    def share(self, parameters: int) -> Share:
        """Return the assumption for a model of so many parameters."""
        return next(one for one in self.shares if parameters < one.below)

    def rate(self, parameters: int, dtype: str, cores: int = 1) -> float:
        """Operations per second that are assumed; `cores` counts for a CPU only.

        Examples
        --------
        >>> device_named("h200").rate(70_000_000, "bfloat16") / 1e12
        98.9
        """
        times = cores if self.name == "cpu" else 1
        return self.peaks[dtype] * times * self.share(parameters).share


def _gpu(name: str, single: float, half: float, memory: float) -> Device:
    return Device(
        name=name,
        source="data sheet, dense; float32 without tensor cores",
        peaks={"float32": single, "bfloat16": half, "float16": half},
        shares=_GPU_SHARES,
        memory=int(memory),
    )


_DEVICES = {
    one.name: one
    for one in (
        _gpu("h200", 67e12, 989e12, 141e9),
        _gpu("h100", 67e12, 989e12, 80e9),
        _gpu("a100", 19.5e12, 312e12, 80e9),
        Device(
            name="cpu",
            source="a core with two 8-lane multiply-adds a cycle at 3 GHz; 16 bits are no faster",
            peaks=dict.fromkeys(("float32", "bfloat16", "float16"), 96e9),
            shares=_CPU_SHARES,
        ),
    )
}
DEVICE_NAMES = tuple(_DEVICES)
"""Devices that a plan can be made for."""


def device_named(name: str) -> Device:
    """Return a device by name.

    Raises
    ------
    NotFoundError
        There is none of this name.
    """
    if name not in _DEVICES:
        raise not_found("device", name, list(_DEVICES))
    return _DEVICES[name]
