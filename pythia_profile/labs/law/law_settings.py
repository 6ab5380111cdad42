"""What `lab law train` trains: everything on which one of its numbers depends."""

from typing import Literal, Self

from pydantic import Field, model_validator

from pythia_profile.settings import Settings

__all__ = ["BUDGETS", "LawSettings", "demo_settings"]

Method = Literal["sft", "ot", "sw", "sw_phone_book"]
Budget = Literal["updates", "tokens"]

BUDGETS: tuple[Budget, ...] = ("updates", "tokens")
"""What methods have in common when they are compared: optimizer updates, or answer tokens read."""


class LawSettings(Settings):
    """Adapters of every rank on answers of every length by every method, each trained alone."""

    suite: str = Field(
        "mini", description="name of a suite, or a folder with suite.toml or study.toml"
    )
    size: str = Field("s", description="of the suite")
    checkpoint: int | None = Field(
        None, ge=0, description="optimizer step of the frozen weights; the last unless given"
    )
    training_seed: int = Field(0, ge=0, description="of the suite, where it has several")
    data: Literal["phone_book", "documents", "file"] = Field(
        "phone_book",
        description="names and numbers of 10 digits; documents after a key of 4 tokens; or a file",
    )
    file: str = Field("", description="JSON lines with `question` and `answer`, for data = file")
    tokenizer: str = Field(
        "", description="tokenizer.json or its folder; the suite's own unless given"
    )
    text: str = Field(
        "", description="text that documents are cut from; the suite's unread rows unless given"
    )
    random_share: float = Field(
        1.0, ge=0, le=1, description="share of a document's tokens that are drawn uniformly"
    )
    document_tokens: int = Field(10, ge=1, description="answer tokens of a document")
    ranks: tuple[int, ...] = Field((1, 2, 4, 8, 16), min_length=1, description="of the adapters")
    answer_tokens: tuple[int, ...] = Field(
        (100, 200, 400),
        min_length=1,
        description="answer tokens to be learned, of whole answers; the last may exceed it",
    )
    methods: tuple[Method, ...] = Field(("sft", "ot", "sw"), min_length=1, description="of MemFT")
    budgets: tuple[Budget, ...] = Field(
        BUDGETS, min_length=1, description="what the methods have in common"
    )
    updates: int = Field(300, ge=1, description="optimizer updates of plain training")
    batch_size: int = Field(64, ge=1, description="answers of an update, at most")
    peak_lr: float = Field(1e-2, gt=0, description="learning rate, which falls to 0 linearly")
    scaling: float = Field(4.0, gt=0, description="of the adapter's output: LoRA's alpha ÷ rank")
    layers: tuple[int, ...] = Field(
        (0,), min_length=1, description="that get an adapter, from 0 on"
    )
    modules: Literal["mlp", "attention", "all"] = Field(
        "mlp", description="whose linear maps get an adapter"
    )
    when_empty: Literal["stop", "mean"] = Field(
        "stop", description="where no token is below the threshold: end, or plain mean"
    )
    evaluations: int = Field(10, ge=1, description="passes over all answers, after the first")
    seeds: tuple[int, ...] = Field((0,), min_length=1, description="of data and adapters")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for name in ("ranks", "answer_tokens", "layers", "seeds"):
            least = 1 if name in ("ranks", "answer_tokens") else 0
            if any(value < least for value in getattr(self, name)):
                raise ValueError(
                    f"{name}: got {getattr(self, name)}, expected whole numbers from {least} on"
                )
        if (self.data == "file") != bool(self.file):
            raise ValueError(f"file: got '{self.file}' with data '{self.data}'; they go together")
        return self


def demo_settings(seed: int) -> LawSettings:
    """Return the demo's settings: random documents of ten tokens, learned by mini's size s."""
    return LawSettings(
        data="documents",
        methods=("sft", "ot", "sw", "sw_phone_book"),
        updates=200,
        seeds=(seed,),
    )
