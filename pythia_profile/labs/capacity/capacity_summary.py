"""What the runs say: capacities, and a sentence for each figure.

In: the table of runs. Out: a line for each size and precision, and sentences.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.stats import t as student

from pythia_profile.labs.capacity.capacity_numbers import CapacityFit, capacity_fit

__all__ = ["bits_a_parameter", "capacities", "expectations", "fit_of", "sentences"]

_BY = ["parameters", "size", "dtype"]


def capacities(runs: pl.DataFrame, *, level: float = 0.95) -> pl.DataFrame:
    """Capacity of each size and precision: the most bits held of any data set.

    Returns
    -------
    parameters, size, dtype, steps, seeds; `capacity` in bits, mean over seeds, `lower` and `upper`
    by Student's law over seeds (NaN for one); `bits_per_parameter`; `peak`, data bits ÷ capacity
    where the loss of rows that were not read is highest; `late_gain`, the largest of the runs that
    are full, and `converged`, whether these all are.
    """
    lines = []
    for (parameters, size, dtype), part in runs.group_by(_BY, maintain_order=True):
        by_seed = part.group_by("seed").agg(pl.col("strict").max())["strict"].to_numpy()
        capacity, count = float(by_seed.mean()), len(by_seed)
        half = np.nan
        if count > 1:
            se = by_seed.std(ddof=1) / np.sqrt(count)
            half = float(student.ppf((1 + level) / 2, count - 1) * se)
        tested = part.group_by("data").agg(pl.col("test_bits").mean()).sort("data")
        highest = tested["data"][int(tested["test_bits"].arg_max() or 0)]
        # runs with less data than the model can hold say nothing of whether it is full
        full = part.filter(pl.col("bound") >= capacity)
        if full.is_empty():
            full = part.filter(pl.col("data") == pl.col("data").max())
        lines.append(
            {
                "parameters": parameters,
                "size": size,
                "dtype": dtype,
                "steps": part["steps"][0],
                "seeds": count,
                "capacity": capacity,
                "lower": capacity - half,
                "upper": capacity + half,
                "bits_per_parameter": capacity / int(str(parameters)),
                "peak": highest / capacity if capacity else np.nan,
                "late_gain": full["late_gain"].max(),
                "converged": bool(full["converged"].all()),
            }
        )
    return pl.DataFrame(lines).sort("parameters", "dtype")


def expectations(runs: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """Set what is expected of such runs beside what was found.

    Parameters
    ----------
    runs : table `capacity`; found : from `capacities`.

    Returns
    -------
    `expected`, in words; `value`, of all models the one nearest to a limit, or furthest beyond;
    `holds`. What the runs cannot tell (a plateau without data beyond the capacity, a ratio of one
    size) is left out.

    Source: Morris et al. (2025), section 3; the limits are those of small budgets.
    """
    means = runs.group_by(*_BY, "rows", "data").agg(pl.col("strict", "bound").mean())
    means = means.join(found.select(*_BY, "capacity"), on=_BY).sort("data")
    least = means.group_by(_BY).first()
    beyond = pl.col("data") / pl.col("capacity")
    flat = (
        means.filter(beyond.is_between(1.25, 2.5))["strict"]
        / means.filter(beyond.is_between(1.25, 2.5))["capacity"]
    )
    lines = [
        (
            "bits ÷ bound, of the least data: .9 or more",
            least["strict"] / least["bound"],
            0.9,
            np.inf,
        ),
        ("bits ÷ capacity, of data 1¼ to 2½ times as large: .75 or more", flat, 0.75, np.inf),
        ("data ÷ capacity, where rows not read cost most: .5 to 1.5", found["peak"], 0.5, 1.5),
        (
            "ratio of two sizes' capacities ÷ that of their parameters: .7 to 1.3",
            _ratios(found),
            0.7,
            1.3,
        ),
    ]
    return pl.DataFrame(
        [_expected(words, np.asarray(values, float), *ends) for words, values, *ends in lines],
        schema={"expected": pl.String, "value": pl.Float64, "holds": pl.Boolean},
    ).drop_nulls()


def _expected(
    words: str, values: npt.NDArray[np.float64], low: float, high: float
) -> dict[str, Any]:
    if not values.size:
        return {"expected": words, "value": None, "holds": None}
    off = np.maximum(low - values, values - high)
    worst = float(values[off.argmax()])
    return {"expected": words, "value": worst, "holds": low <= worst <= high}


def _ratios(found: pl.DataFrame) -> npt.NDArray[np.float64]:
    """Of the largest and smallest size of each precision, where there are two."""
    ratios = []
    for _, part in found.group_by("dtype"):
        lines = part.sort("parameters")
        if len(lines) > 1:
            ratios.append(lines["bits_per_parameter"][-1] / lines["bits_per_parameter"][0])
    return np.array(ratios)


def bits_a_parameter(line: Mapping[str, Any]) -> str:
    """Write bits per parameter of a line of `capacities`, with its interval over seeds.

    Examples
    --------
    >>> one = {"bits_per_parameter": 1.5, "capacity": 150.0, "upper": 165.0, "parameters": 100}
    >>> bits_a_parameter({**one, "seeds": 3})
    '1.50 ± 0.15 a parameter (95 %, 3 seeds)'
    >>> bits_a_parameter({**one, "seeds": 1})
    '1.50 a parameter'
    """
    if line["seeds"] == 1:
        return f"{line['bits_per_parameter']:.2f} a parameter"
    half = (line["upper"] - line["capacity"]) / line["parameters"]
    return (
        f"{line['bits_per_parameter']:.2f} ± {half:.2f} a parameter (95 %, {line['seeds']} seeds)"
    )


def fit_of(found: pl.DataFrame) -> CapacityFit:
    """Bits per parameter over the sizes of the first precision."""
    lines = found.filter(pl.col("dtype") == found["dtype"][0])
    return capacity_fit(lines["parameters"].to_numpy(), lines["capacity"].to_numpy())


def sentences(runs: pl.DataFrame, found: pl.DataFrame) -> dict[str, str]:
    """Say in a sentence or two what each figure shows, by the figure's name."""
    held, fit = [], fit_of(found)
    for line in found.iter_rows(named=True):
        state = (
            "has converged"
            if line["converged"]
            else f"has not converged: the last fifth of training brought {line['late_gain']:.0%} "
            "of the fall of its loss, so more steps would hold more"
        )
        held.append(
            f"{line['size']!s} ({line['parameters']:,} parameters, {line['dtype']}, "
            f"{line['steps']:,} steps) holds at most {line['capacity']:,.0f} bits, "
            f"{bits_a_parameter(line)}, and {state}."
        )
    least = runs.sort("data").group_by(_BY, maintain_order=True).first()
    share = (least["strict"] / least["bound"]).to_numpy().min()
    interval = "" if np.isnan(fit.lower) else f" (95 % from {fit.lower:.2f} to {fit.upper:.2f})"
    peaks = ", ".join(f"{peak:.2f}" for peak in found["peak"])
    first, last = runs.sort("data")[0], runs.sort("data")[-1]
    said = {
        "memorized": f"Of its smallest data set each model holds {share:.0%} of the bound or more. "
        + " ".join(held),
        "capacity": f"{fit.slope:.2f} bits a parameter{interval}, at these numbers of steps. "
        "Reported for a million steps of much larger models: 3.5 to 3.8; not measured here.",
        "descent": "The loss of rows that were not read is highest where data bits ÷ measured "
        f"capacity is {peaks}; on random data it cannot fall below log2 V.",
        "membership": f"AUC of a threshold on the loss falls from {first['auc'][0]:.2f} to "
        f"{last['auc'][0]:.2f} from the least to the most data; a weak attack, and a law fitted "
        "to other models (with data bits per parameter, not as printed).",
        "extraction": f"Greedy continuation of a quarter of the row gives back "
        f"{first['extracted_train'][0]:.0%} of the rows that were read at the least data, "
        f"{last['extracted_train'][0]:.0%} at the most; of rows not read "
        f"{runs['extracted_test'].to_numpy().max():.0%} at most.",
    }
    if found["dtype"].n_unique() > 1:
        parts = "; ".join(
            f"{line['size']} {line['dtype']} {bits_a_parameter(line)}"
            for line in found.iter_rows(named=True)
        )
        said["precision"] = f"Bits by precision of the weights: {parts}."
    return said
