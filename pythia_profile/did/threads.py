"""Linear algebra on one thread.

The products here are small (145 × 100 × 1,000): threads of the BLAS library would spend their time
waiting for one another. On two cores shared with other work the whole estimate took 2.3 to 12 s
with two BLAS threads and 1.3 to 2.0 s with one (eight runs each).
"""

from collections.abc import Callable
from functools import cache, wraps
from typing import ParamSpec, TypeVar

from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

P = ParamSpec("P")
R = TypeVar("R")


def one_blas_thread(function: Callable[P, R]) -> Callable[P, R]:
    """Run a function with one BLAS thread, and give back the number there was."""

    @wraps(function)
    def limited(*args: P.args, **kwargs: P.kwargs) -> R:
        with _controller().limit(limits=1, user_api="blas"):
            return function(*args, **kwargs)

    return limited


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()
