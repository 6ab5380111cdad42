"""Whether weights change from checkpoint to checkpoint as training changes them.

In: the checkpoints of one size, ascending. Out: for each its distance to the one before, relative
to its own norm, and the norm of its embedding matrix; and what does not fit the neighbors.

Training moves on: the change into a checkpoint and the change out of it point the same way or are
unrelated, but they do not oppose each other (an optimizer with momentum, and a loss with a slope).
A checkpoint of another step is reached and left in opposite directions, however near that step is.
A run that goes on with weights of another one shows one change that is many times as long as those
around it and leads back towards the origin.

Distances are those of a sample of entries, the same of every checkpoint and evenly spread over each
tensor: 154 checkpoints of 12b are compared in a few MB of memory, each file being read once.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from pythia_profile.checkpoints.weights import find_weights, tensors

__all__ = ["Continuity", "Sketch", "continuity", "odd_ones", "sketch"]

Gram = npt.NDArray[np.float64]

ENTRIES = 100_000
"""Entries of a checkpoint that are compared; a distance is then right to about a percent."""

_EMBEDDINGS = ("gpt_neox.embed_in.weight", "model.embed_tokens.weight")
_AGAINST = -0.3
"""Cosine of two changes in a row below which they oppose each other.

In 3 clean runs of 144 checkpoints the least is 0.36 (8 updates apart) and 0.78 (1 update apart);
unrelated changes give 0, and two neighbors that are swapped -0.6 or less.
"""

_ROUNDING = 1e-14
"""Squared distance, over the largest squared norm, of weights that are equal."""

_WINDOW = 5
_BREAK = 2.5
"""How many times as long as every change around it a change into another run is, at least."""

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
    fitting : steps with the weights of another step that do fit their neighbors: the originals.
    """

    steps: tuple[int, ...]
    distance: tuple[float, ...]
    embedding_norm: tuple[float, ...]
    odd: dict[int, str]
    fitting: frozenset[int] = frozenset()


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
    odd, fitting = _misplaced(steps, sketches, same)
    for step, why in odd_ones(steps, norms).items():
        odd.setdefault(step, f"norm of the embeddings {why}")
    return Continuity(tuple(steps), tuple(distances), tuple(norms), odd, frozenset(fitting))


def odd_ones(steps: list[int], values: list[float]) -> dict[int, str]:
    """Find steps whose value lies far from those of both neighbors, and on one side of them.

    Far is six times the median of what the others lie off the line between their neighbors, and at
    least two percent of the value. The worst is taken out first, so that it speaks against no
    other.
    """
    left = [index for index in range(len(steps)) if np.isfinite(values[index])]
    found = {}
    while len(left) >= _ENOUGH:
        x = np.array([steps[index] for index in left], dtype=np.float64)
        y = np.array([values[index] for index in left], dtype=np.float64)
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


def _misplaced(
    steps: list[int], sketches: list[Sketch], same: Callable[[int, int], bool]
) -> tuple[dict[int, str], set[int]]:
    """Find weights that are not those of their step; and of equal ones, those that are."""
    odd: dict[int, str] = {}
    shapes = Counter(one.entries.shape for one in sketches)
    usual = max(shapes, key=shapes.__getitem__, default=())
    kept: list[int] = []
    for index, one in enumerate(sketches):
        if one.entries.shape != usual:
            if shapes[one.entries.shape] == 1:
                odd[steps[index]] = "tensors of other shapes than every other checkpoint"
        elif not (kept and same(steps[kept[-1]], steps[index])):
            kept.append(index)
        elif _distance(sketches[kept[-1]], one) > 0:
            odd[steps[index]] = (
                f"differs from step {steps[kept[-1]]}, though every update between has rate 0"
            )
    names = [steps[index] for index in kept]
    fitting, copies = set[int](), set[int]()
    if kept:
        points = np.array([sketches[index].entries for index in kept], dtype=np.float64)
        # Everything below is inner products of differences: n by n numbers instead of n points.
        # About their mean, so that small changes of large weights keep their digits.
        points -= points.mean(axis=0)
        gram = points @ points.T
        fitting, copies = _originals(gram, names, odd)
        order = [index for index in range(len(names)) if index not in copies]
        for step, why in _disorder(gram, order, names).items():
            odd.setdefault(step, why)
    return odd, fitting


def _originals(gram: Gram, names: list[int], odd: dict[int, str]) -> tuple[set[int], set[int]]:
    """Judge groups of equal weights: the one that fits its neighbors is right, if only one does.

    Returns
    -------
    Steps that fit, and indices of the others of each group.
    """
    squares = np.diag(gram)
    apart = squares[:, None] + squares - 2 * gram
    equal = apart <= _ROUNDING * squares.max(initial=0.0)
    fitting, copies = set[int](), set[int]()
    for group in {tuple(np.flatnonzero(line).tolist()) for line in equal}:
        if len(group) < 2:
            continue
        right = []
        for index in group:
            order = [i for i in range(len(names)) if i == index or i not in group]
            at = order.index(index)
            turn = _turns(gram, order[max(0, at - 1) : at + 2])
            if len(turn) and turn[0] > _AGAINST:
                right.append(index)
        if len(right) == 1:
            fitting.add(names[right[0]])
        for index in group:
            if right != [index]:
                copies.add(index)
                other = names[right[0] if len(right) == 1 else next(i for i in group if i != index)]
                odd[names[index]] = f"the same weights as step {other}"
    return fitting, copies


def _disorder(gram: Gram, order: list[int], names: list[int]) -> dict[int, str]:
    """Find weights that are out of order, pairs that are swapped, and a change of runs.

    Parameters
    ----------
    gram : (n, n) inner products of all points.
    order : indices of the points to judge, in the order of their steps.
    names : step of each index.
    """
    found: dict[int, str] = {}
    labels = [names[index] for index in order]
    while suspects := _opposed(gram, order):
        # A swap leaves two to four suspects, or one beside the first or last point, which has no
        # turn of its own; putting the right pair back leaves none.
        pairs = combinations(sorted({*suspects, 0, len(order) - 1}), 2)
        swaps = [(len(_opposed(gram, _swapped(order, *pair))), pair) for pair in pairs]
        worst = min(suspects, key=suspects.__getitem__)
        left, (first, second) = min(swaps)
        without = order[:worst] + order[worst + 1 :]
        if left < len(suspects) and left <= len(_opposed(gram, without)):
            for step, other in ((labels[first], labels[second]), (labels[second], labels[first])):
                found[step] = f"swapped with step {other}, by the direction of change"
            order = _swapped(order, first, second)
        else:
            found[labels[worst]] = (
                f"reached and left in opposite directions (cosine {suspects[worst]:.2f}): its "
                f"neighbors are nearer to each other than to it"
            )
            order = without
            del labels[worst]
    return found | _another_run(gram, order, labels)


def _products(gram: Gram, order: list[int]) -> Gram:
    """(n - 1, n - 1) inner products of the changes between consecutive points."""
    inner = gram[np.ix_(order, order)]
    products: Gram = np.diff(np.diff(inner, axis=0), axis=1)
    return products


def _turns(gram: Gram, order: list[int]) -> Gram:
    """(n - 2,) cosine of the changes into and out of each point but the first and last."""
    products = _products(gram, order)
    squares = np.diag(products).clip(0)
    both = np.sqrt(squares[1:] * squares[:-1])
    turns: Gram = np.divide(np.diag(products, 1), both, out=np.ones_like(both), where=both > 0)
    return turns


def _opposed(gram: Gram, order: list[int]) -> dict[int, float]:
    """Position of each point at which the direction turns back, and the cosine.

    Where training has come to rest in noise, changes oppose each other everywhere (-0.5), so a
    point must stand out among its neighbors too.
    """
    turns = _turns(gram, order)
    found = {}
    for index in np.flatnonzero(turns < _AGAINST).tolist():
        around = turns[max(0, index - _WINDOW) : index + _WINDOW + 1]
        if len(around) < 3 or turns[index] < np.median(around) + _AGAINST:
            found[index + 1] = float(turns[index])
    return found


def _swapped(order: list[int], first: int, second: int) -> list[int]:
    changed = list(order)
    changed[first], changed[second] = order[second], order[first]
    return changed


def _another_run(gram: Gram, order: list[int], labels: list[int]) -> dict[int, str]:
    """Find a change that is far longer than those around it and leads back: another run.

    Weights of the shorter side are called wrong.
    """
    if len(order) < _ENOUGH:
        return {}
    products = _products(gram, order)
    lengths = np.sqrt(np.diag(products).clip(0))
    for index in range(1, len(lengths)):
        around = np.delete(lengths[max(0, index - 2) : index + 3], min(index, 2))
        back = products[index, :index].sum()  # along the whole way from the first point
        if lengths[index] > _BREAK * around.max() and back < 0:
            before, after = labels[: index + 1], labels[index + 1 :]
            earlier = len(before) < len(after)
            where = f"up to step {before[-1]}" if earlier else f"from step {after[0]} on"
            times = lengths[index] / np.median(around)
            return dict.fromkeys(
                before if earlier else after,
                f"weights of another run {where}: the change from step {before[-1]} to {after[0]} "
                f"is {times:.1f} times those around it",
            )
    return {}
