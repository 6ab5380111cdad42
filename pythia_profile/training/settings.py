"""Settings of a training run; imports no torch, so that suites can be described without it."""

import numpy as np
import numpy.typing as npt
from pydantic import Field

from pythia_profile.settings import Settings
from pythia_profile.suites.schedule import SCHEDULES

__all__ = ["Recipe"]


class Recipe(Settings):
    """How a model is trained, its data aside.

    Examples
    --------
    >>> Recipe(steps=4, batch_size=2, peak_lr=1e-3, warmup_steps=2).rates().round(6).tolist()
    [0.0, 0.0005, 0.001, 0.0005]
    """

    steps: int = Field(ge=1, description="optimizer steps of the whole run")
    batch_size: int = Field(ge=1, description="token rows of a step")
    peak_lr: float = Field(gt=0, description="highest learning rate")
    min_lr: float = Field(0.0, ge=0, description="floor of the learning rate")
    warmup_steps: int = Field(0, ge=0, description="steps until the highest rate")
    schedule: str = Field("linear", description="name of a schedule of pythia_profile.suites")
    beta1: float = Field(0.9, ge=0, lt=1, description="decay of AdamW's first moment")
    beta2: float = Field(0.95, ge=0, lt=1, description="decay of AdamW's second moment")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay of AdamW")
    clip: float = Field(1.0, gt=0, description="largest norm of a gradient")

    def rates(self) -> npt.NDArray[np.float64]:
        """Learning rate of updates 1 to `steps`; (steps,)."""
        return SCHEDULES[self.schedule](
            np.arange(1, self.steps + 1),
            peak=self.peak_lr,
            minimum=self.min_lr,
            warmup=self.warmup_steps,
            total=self.steps,
        )
