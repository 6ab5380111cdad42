"""How a run of GPT-NeoX or Megatron-LM laid its documents out in rows: the facts its maps need."""

from dataclasses import dataclass

import numpy as np

from data_order.errors import OrderError
from data_order.order import TrainingOrder
from data_order.published import ORDERS

_PYTHIA = ORDERS["pythia"]
_PARTS = ("train", "valid", "test")
_SHARE_OF_LAST_EPOCH = 0.80


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Seed, length and documents of one run; by default Pythia's.

    Attributes
    ----------
    seed : the run's data seed, 0 to 2**32 - 1.
    samples : samples the run asked for, which sets the number of epochs; see `samples_asked`.
    sequence_length : L, one less than the tokens of a row.
    split : weights of the train, valid and test documents, "969,30,1" for instance, where the run
        was given one data path and cut it itself; "" where it read all documents.
    part : which part of the split was read.
    last_epoch_apart : whether the run was Megatron-LM's, which shuffles the last epoch by itself
        where less than 80 % of it is needed; GPT-NeoX never does.
    packing : "packed"; "pack_until_overflow" and "unpacked" of newer GPT-NeoX are not replayable.
    """

    seed: int = _PYTHIA.seed
    samples: int = _PYTHIA.samples
    sequence_length: int = _PYTHIA.sequence_length
    split: str = ""
    part: str = "train"
    last_epoch_apart: bool = False
    packing: str = "packed"

    def __post_init__(self) -> None:
        for name, low, high in (
            ("samples", 1, 2**62),
            ("sequence_length", 1, 2**62),
            ("seed", 0, 2**32),
        ):
            whole(name, getattr(self, name), low, high)
        if self.part not in _PARTS:
            raise OrderError(f"part: got {self.part!r}, expected one of {', '.join(_PARTS)}")
        if self.packing != "packed":
            raise OrderError(
                f"packing: '{self.packing}' is not replayable here, only 'packed' is: documents "
                "laid end to end and cut every sequence_length tokens"
            )
        if self.split:
            _weights(self.split)

    def documents_of(self, documents: int) -> tuple[int, int]:
        """First document of the part that was read, and the one after its last.

        Bounds are running sums of rounded shares; what they exceed the number of documents by is
        taken off every bound but the first.

        Examples
        --------
        >>> Layout(split="969,30,1").documents_of(1000)
        (0, 969)
        >>> Layout(split="969,30,1", part="valid").documents_of(1000)
        (969, 999)
        """
        if not self.split:
            return 0, documents
        counts = [round(weight * float(documents)) for weight in _weights(self.split)]
        bounds = np.cumsum([0, *counts])
        bounds[1:] -= bounds[-1] - documents
        first = _PARTS.index(self.part)
        low, high = int(bounds[first]), int(bounds[first + 1])
        if low >= high:
            raise OrderError(
                f"split '{self.split}': the {self.part} part of {documents:,} documents is empty"
            )
        return low, high

    def last_epoch_is_apart(self, tokens: int, epochs: int) -> bool:
        """Whether the last of `epochs` epochs of `tokens` tokens each is shuffled by itself."""
        if not self.last_epoch_apart or epochs == 1:
            return False
        needed = self.samples - ((epochs - 1) * tokens - 1) // self.sequence_length
        of_an_epoch = (tokens - 1) // self.sequence_length
        return needed < int(_SHARE_OF_LAST_EPOCH * of_an_epoch)


def samples_asked(training: TrainingOrder, split: str = "") -> int:
    """Return how many samples GPT-NeoX asks for: half a percent more than read, or just those.

    Examples
    --------
    >>> samples_asked(TrainingOrder(1024, 143_000)), samples_asked(TrainingOrder(4, 5), "969,30,1")
    (147164160, 20)
    """
    return training.rows if split else -(-training.rows * 1005 // 1000)


def whole(name: str, value: object, low: int, high: int) -> None:
    """Refuse what is no whole number of `low` to `high` - 1."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise OrderError(f"{name}: got {value!r}, expected a whole number")
    if not low <= value < high:
        raise OrderError(f"{name}: got {value}, expected {low} to {high - 1}")


def _weights(split: str) -> list[float]:
    try:
        weights = [float(part) for part in split.replace("/", ",").split(",")]
    except ValueError:
        weights = []
    if not 1 <= len(weights) <= 3 or min(weights) < 0 or not 0 < sum(weights) < float("inf"):
        raise OrderError(
            f"split: got '{split}', expected up to three weights, 969,30,1 for example"
        )
    weights += [0.0] * (3 - len(weights))
    return [weight / sum(weights) for weight in weights]
