"""An estimate as named arrays, to be kept in a file without pickle, and made anew from them.

In: `AttGt`. Out: name -> array, such as `fit.sums.total`, fit for `np.savez`. Every part of an
estimate is a frozen dataclass of arrays, numbers, text or other such parts; None is left out.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_args, get_type_hints

import numpy as np

from pythia_profile.did.att import AttGt
from pythia_profile.did.settings import Estimation
from pythia_profile.errors import TableError

Kind = TypeVar("Kind")


def to_arrays(att: AttGt) -> dict[str, np.ndarray]:
    """Lay out an estimate as arrays by name.

    Examples
    --------
    >>> from pythia_profile.did import NEVER, att_gt
    >>> y = [[0.0, 2.0], [1.0, 2.8], [0.0, 1.0], [1.0, 1.8]]
    >>> effect = att_gt(y, [1, 1, NEVER, NEVER], [0, 1])
    >>> kept = to_arrays(effect)
    >>> kept["fit.treated.rows"]
    array([[2, 2]])
    >>> bool((from_arrays(kept).se == effect.se).all())
    True
    """
    return dict(_flat(att, ""))


def from_arrays(arrays: Mapping[str, np.ndarray]) -> AttGt:
    """Make an estimate from the arrays that `to_arrays` laid out.

    Raises
    ------
    TableError
        An array is missing: another version wrote these.
    """
    return _made(AttGt, arrays, "")


def _flat(part: Any, prefix: str) -> list[tuple[str, np.ndarray]]:
    found = []
    for field in fields(part):
        name, value = prefix + field.name, getattr(part, field.name)
        if is_dataclass(value):
            found += _flat(value, f"{name}.")
        elif isinstance(value, Estimation):
            found.append((name, np.array(value.model_dump_json())))
        elif value is not None:
            text = isinstance(value, tuple)
            found.append((name, np.array(value, dtype=str) if text else np.asarray(value)))
    return found


def _made(kind: type[Kind], arrays: Mapping[str, np.ndarray], prefix: str) -> Kind:
    hints = get_type_hints(kind)
    given: dict[str, Any] = {}
    for field in fields(kind):  # type: ignore[arg-type]
        hint, name = hints[field.name], prefix + field.name
        part: Any = next((h for h in (hint, *get_args(hint)) if is_dataclass(h)), None)
        optional = type(None) in get_args(hint)
        if part is not None and any(key.startswith(f"{name}.") for key in arrays):
            given[field.name] = _made(part, arrays, f"{name}.")
        elif name in arrays:
            given[field.name] = _value(hint, arrays[name])
        elif optional:
            given[field.name] = None
        else:
            raise TableError(f"estimate: '{name}' is missing; estimate again")
    return kind(**given)


def _value(hint: Any, array: np.ndarray) -> Any:
    if hint is Estimation:
        return Estimation.model_validate_json(str(array))
    if array.ndim == 0:
        return array.item()
    return tuple(array.tolist()) if array.dtype.kind == "U" else array
