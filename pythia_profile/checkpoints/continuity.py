"""Whether weights change from checkpoint to checkpoint as training changes them.

In: the checkpoints of one size, ascending. Out: for each its distance to the one before, relative
to its own norm, and the norm of its embedding matrix; and what does not fit the neighbors.

Distances are those of a sample of entries, the same of every checkpoint and evenly spread over each
tensor: 154 checkpoints of 12b are compared in a few MB of memory, each file being read once.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from pythia_profile.checkpoints.weights import find_weights, tensors

__all__ = ["Continuity", "Sketch", "continuity", "odd_ones", "sketch"]

ENTRIES = 100_000
"""Entries of a checkpoint that are compared; a distance is then right to about a percent."""

_EMBEDDINGS = ("gpt_neox.embed_in.weight", "model.embed_tokens.weight")
_OUT_AND_BACK = 2.0
_JUMP = 6.0
_LEAST_JUMP = 0.02
_ENOUGH = 5


@dataclass(frozen=True, slots=True)
class Sketch:
    """What is kept of one checkpoint.

    Attributes
    ----------
    entries : (ENTRIES,) about, float32, of all tensors in the order of their names.
    embedding_norm : Frobenius norm of the token embeddings; NaN where there are none.
    """

    entries: npt.NDArray[np.float32]
    embedding_norm: float


@dataclass(frozen=True, slots=True)
class Continuity:
    """How the weights of one size change.

    Attributes
    ----------
    steps : (C,) checkpoints, ascending.
    distance : (C,) distance to the checkpoint before, over the norm; NaN for the first.
    embedding_norm : (C,) Frobenius norm of the token embeddings.
    odd : step -> why it does not fit its neighbors.
    """

    steps: tuple[int, ...]
    distance: tuple[float, ...]
    embedding_norm: tuple[float, ...]
    odd: dict[int, str]


def sketch(folder: Path) -> Sketch:
    """Read a checkpoint once and keep a sample of it.

    Raises
    ------
    CheckpointError
        A file is damaged or missing.
    """
    parts: dict[str, torch.Tensor] = {}
    norm = float("nan")
    for name, value in tensors(find_weights(folder)):
        if not value.is_floating_point():
            continue
        flat = value.reshape(-1)
        parts[name] = flat[:: max(1, flat.numel() // _share(flat.numel()))].float()
        if name in _EMBEDDINGS:
            norm = float(torch.linalg.vector_norm(value, dtype=torch.float64))
    entries = torch.cat([parts[name] for name in sorted(parts)]) if parts else torch.empty(0)
    return Sketch(entries.numpy(), norm)


def continuity(
    checkpoints: Iterable[tuple[int, Sketch]],
    same: Callable[[int, int], bool] = lambda *_: False,
) -> Continuity:
    """Compare the checkpoints of one size, ascending by step, each with its neighbors.

    Parameters
    ----------
    same : whether two steps hold the same weights by design.
    """
    steps, sketches = [], []
    for step, one in checkpoints:
        steps.append(step)
        sketches.append(one)
    distances = [float("nan")] * bool(steps)
    distances += [_distance(before, after) for before, after in pairwise(sketches)]
    norms = [one.embedding_norm for one in sketches]
    odd: dict[int, str] = {}
    for place, (step, one) in enumerate(zip(steps, sketches, strict=True)):
        why = _why(place, one, steps, sketches, same)
        if why:
            odd[step] = why
    for step, why in odd_ones(steps, norms).items():
        odd.setdefault(step, f"norm of the embeddings {why}")
    return Continuity(tuple(steps), tuple(distances), tuple(norms), odd)


def odd_ones(steps: list[int], values: list[float]) -> dict[int, str]:
    """Find steps whose value lies far from those of both neighbors, and on one side of them.

    Far is six times the median of what the others lie off the line between their neighbors, and at
    least two percent of the value. The worst is taken out first, so that it speaks against no
    other.
    """
    left = [place for place in range(len(steps)) if np.isfinite(values[place])]
    found = {}
    while len(left) >= _ENOUGH:
        x = np.array([steps[place] for place in left], dtype=np.float64)
        y = np.array([values[place] for place in left], dtype=np.float64)
        outside = (y[1:-1] > np.maximum(y[:-2], y[2:])) | (y[1:-1] < np.minimum(y[:-2], y[2:]))
        off = np.where(outside, _off(x, y), -1.0)
        worst = int(np.argmax(off)) + 1
        others = _off(np.delete(x, worst), np.delete(y, worst))
        if off[worst - 1] <= max(_JUMP * np.median(others), _LEAST_JUMP * abs(y[worst])):
            break
        near = f"neighbors {y[worst - 1]:.4g} and {y[worst + 1]:.4g}"
        found[steps[left[worst]]] = f"{y[worst]:.4g}, {near}"
        del left[worst]
    return dict(sorted(found.items()))


def _off(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """How far each value but the first and last is off the line between its neighbors."""
    line = y[:-2] + (y[2:] - y[:-2]) * (x[1:-1] - x[:-2]) / (x[2:] - x[:-2])
    return np.abs(y[1:-1] - line)


def _share(size: int) -> int:
    """Entries taken of a tensor: all of a small one, few of a large one."""
    return max(1, min(size, ENTRIES // 100))


def _distance(before: Sketch, after: Sketch) -> float:
    if before.entries.shape != after.entries.shape:
        return float("nan")
    norm = float(np.linalg.norm(after.entries)) or 1.0
    return float(np.linalg.norm(after.entries - before.entries)) / norm


def _why(
    place: int,
    one: Sketch,
    steps: list[int],
    sketches: list[Sketch],
    same: Callable[[int, int], bool],
) -> str:
    """Say why a checkpoint does not fit; empty where it does.

    A checkpoint of another step lies far from both neighbors while these lie close to each other.
    """
    shapes = {other.entries.shape for other in sketches}
    if len(shapes) > 1 and sum(o.entries.shape == one.entries.shape for o in sketches) == 1:
        return "tensors of other shapes than every other checkpoint"
    for other in range(len(sketches)):
        pair = sorted((steps[place], steps[other]))
        if other != place and not same(*pair) and _distance(sketches[other], one) == 0:
            return f"the same weights as step {steps[other]}"
    if not 0 < place < len(sketches) - 1:
        return ""
    before, after = sketches[place - 1], sketches[place + 1]
    to_before, to_after = _distance(before, one), _distance(one, after)
    across = _distance(before, after)
    if min(to_before, to_after) > _OUT_AND_BACK * across:
        return (
            f"{to_before:.3f} and {to_after:.3f} from its neighbors, which are {across:.3f} apart"
        )
    return ""
