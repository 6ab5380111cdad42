"""Settings of a steer; imports no torch."""

from pydantic import Field

from pythia_profile.errors import ProfileError
from pythia_profile.settings import Settings
from pythia_profile.training.settings import Recipe

__all__ = ["Generation", "SteerError", "SteerSettings"]


class SteerError(ProfileError):
    """A steer, a model and texts do not go together."""

    exit_code = 2


class SteerSettings(Settings):
    """How a steer is trained; `scale` times a product of two factors is its matrix W.

    Source: Han et al. (2024), arXiv 2305.12798, section 3: rank 1000 at width 1280, scale 1e-3,
    factors drawn with standard deviation 1e-2, Adam at 1e-2, 1000 steps of 32 texts.

    Examples
    --------
    >>> SteerSettings(rank=1000).strength
    0.001
    """

    rank: int = Field(8, ge=1, description="rank of W; at most the width of the model counts")
    scale: float | None = Field(
        None, gt=0, description="ε in training; unset, 1 / rank: the paper's 1e-3 at its rank 1000"
    )
    sd: float = Field(1e-2, gt=0, description="standard deviation of the factors at the start")
    learning_rate: float = Field(
        1e-2, gt=0, le=1e30, description="highest rate of Adam; decays to 0"
    )
    steps: int = Field(400, ge=1, description="updates")
    batch_size: int = Field(32, ge=1, description="texts of an update")
    longest: int | None = Field(
        None, ge=2, description="tokens of a text that are read; unset, the model's context"
    )
    seed: int = Field(0, ge=0, description="of the factors and of the order of texts")

    @property
    def strength(self) -> float:
        """The scale in training."""
        return self.scale or 1 / self.rank

    @property
    def recipe(self) -> Recipe:
        """The updates and their rates."""
        return Recipe(
            steps=self.steps, batch_size=self.batch_size, peak_lr=self.learning_rate, beta2=0.999
        )


class Generation(Settings):
    """How text is continued.

    Examples
    --------
    >>> Generation(top_p=0)
    Traceback (most recent call last):
        ...
    pythia_profile.errors.SettingsError: top_p: got 0, expected: greater than 0
    """

    prompt: int = Field(8, ge=1, description="tokens of each text that are given")
    tokens: int = Field(24, ge=1, description="tokens that follow")
    top_p: float = Field(
        0.9, gt=0, le=1, description="of the most likely tokens, those that hold so much are drawn"
    )
    greedy: bool = Field(False, description="always the most likely token")
    seed: int = Field(0, ge=0, description="of what is drawn")
