"""What profiles say: learning rate, large from small, seeds, exposure, decay, bits.

Each module has one finding, in pure functions over arrays and estimates; `whole` puts them
together. `pythia_profile.findings(...)` is `whole.findings`, whether or not this package was
imported before.
"""

import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    """The package stands under the name of its function: a call goes there."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from pythia_profile.findings.whole import findings

        return findings(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
