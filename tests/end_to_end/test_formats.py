"""A tiny run in each format of published orders: trained here, served by a stand-in, profiled.

Each order is computed here from its rule, and the rows that a step trained on are remembered; the
study knows the published facts (with other sizes) and must find the same steps, an effect on rows
that were read, and none on placebo rows.
"""

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import save
from transformers import AutoModelForCausalLM, LlamaConfig, Olmo2Config, Olmo3Config

from data_order import MegatronStore
from data_order.shuffled import filed_runs, runs
from data_order.shuffled.repetition import is_masked
from pythia_profile.cli import app
from pythia_profile.cli.app import run
from pythia_profile.suites.pythia import PUBLISHED
from pythia_profile.suites.registry import open_suite
from pythia_profile.training.languages import Bigram
from pythia_profile.training.loop import next_token_loss, start, train
from pythia_profile.training.settings import Recipe
from tests.checkpoints.conftest import in_process  # noqa: F401 (a fixture)
from tests.data_order.neox_reference import index_maps, split_bounds
from tests.data_order.test_shuffled_runs import Listed
from tests.stand_in.files import FileServer
from tests.stand_in.hub import Hub

pytestmark = pytest.mark.slow

TOKENS, VOCABULARY, BATCH = 41, 40, 8
SLOWLY = 16
"""Steps of warm-up where update 1, at rate 0, is the placebo: its gradient stays in the optimizer's
moments, which the next updates use, in a published run at rates of a thousandth of the peak."""
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "eos_token_id": 1,
}


def text(rows: int, seed: int = 1) -> np.ndarray:
    return Bigram.draw(VOCABULARY, seed=0, concentration=0.3).rows(rows, TOKENS, seed=seed)


def nothing(batch: np.ndarray) -> np.ndarray:
    """Mask no row."""
    return np.zeros(len(batch), bool)


@dataclass
class Bench:
    """A stand-in hub, a folder, and what was trained on."""

    hub: Hub
    folder: Path
    patch: pytest.MonkeyPatch

    def suite(self, name: str, steps: int, **facts):
        """The published suite of a tiny run: same names and rules, other sizes."""
        known = open_suite(name)
        size = replace(
            next(iter(known.sizes.values())),
            layers=2,
            width=32,
            heads=2,
            parameters=20_000,
            non_embedding=0,
            peak_lr=1e-2,
            min_lr=1e-3 if known.schedule != "linear" else 0.0,
            weights="tests/tiny",
            checkpoints=(),
        )
        made = replace(
            known,
            batch_size=BATCH,
            steps=steps,
            row_tokens=TOKENS,
            vocabulary=VOCABULARY,
            **{"warmup_steps": 4, "decay_steps": 0, "study_defaults": {}, **facts},
            sizes={size.name: size},
        )
        self.patch.setitem(PUBLISHED, name, (made,))
        return made

    def train(
        self,
        suite,
        config,
        batches: list[np.ndarray],
        checkpoints: list[int],
        *,
        masked: Callable[[np.ndarray], np.ndarray] = nothing,
        skipped: int = 0,
    ) -> None:
        """Train on the batches by the suite's rates; publish each checkpoint on its branch."""
        (size,) = suite.sizes.values()
        torch.manual_seed(0)
        recipe = Recipe(
            steps=suite.steps,
            batch_size=BATCH,
            peak_lr=size.peak_lr,
            min_lr=size.min_lr,
            warmup_steps=suite.warmup_steps,
            schedule=suite.schedule,
        )
        state = start(AutoModelForCausalLM.from_config(config), recipe)
        model = state.model

        def publish(step: int) -> None:
            tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
            files = {
                "config.json": json.dumps(config.to_diff_dict()).encode(),
                "model.safetensors": save(tensors),
            }
            branch = suite.revision_of(step).replace("*", "1")
            self.hub.add("model", size.weights, files, revision=branch)

        if 0 in checkpoints:
            publish(0)
        weights = (torch.from_numpy(b[~masked(b)].astype(np.int64)) for b in batches)
        kept: list[dict] = []
        for update in train(state, weights, recipe, loss=next_token_loss):
            if update.step == skipped:  # as SkipStepAdamW: weights and moments stay
                for part, content in zip((model, state.optimizer), kept, strict=True):
                    part.load_state_dict(content)
            if update.step == skipped - 1:
                kept = deepcopy([model.state_dict(), state.optimizer.state_dict()])
            if update.step in checkpoints:
                publish(update.step)
        self.hub.add("model", size.weights, {"README.md": b"tiny"}, revision="main")

    def study(self, suite, checkpoints: list[int], *settings: str) -> pl.DataFrame:
        """Profile it through the command line; the sampled rows."""
        folder = self.folder / "study"
        chosen = ("rows_per_cohort=60", "batches_per_cohort=0", "never_treated=50", "draws=50")
        sets = [f"--set={one}" for one in (*chosen, *settings)]
        grid = ",".join(map(str, checkpoints))
        begin = ["init", str(folder), "--suite", suite.name, "--checkpoints", grid, *sets]
        assert run(app, begin) == 0
        for verb in ("sample", "covariates", "score", "att", "profile", "check"):
            assert run(app, [verb, str(folder)]) == 0, verb
        return pl.read_parquet(folder / "rows.parquet")

    def found(self) -> tuple[float, dict[str, float]]:
        """Mean effect at the cohort's checkpoint, and the line of placebo rows."""
        folder = self.folder / "study"
        lines = pl.read_parquet(folder / "profiles.parquet")
        mean = lines.filter(pl.col("cohort").is_null(), kind="instantaneous").row(0, named=True)
        contrasts = pl.read_parquet(folder / "contrasts.parquet")
        placebo = contrasts.filter(between="placebo rows", kind="overall")
        return mean["att"] / mean["se"], placebo.row(0, named=True) if len(placebo) else {}


@pytest.fixture
def bench(tmp_path, monkeypatch, in_process):  # noqa: F811 (the fixture)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    with Hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield Bench(hub, tmp_path, monkeypatch)


def check_steps(rows: pl.DataFrame, batches: list[np.ndarray], exact: bool = True) -> None:
    """Every treated row is in the batch of its step, and no never-treated one is in any read."""
    read = [{tuple(row) for row in batch.tolist()} for batch in batches]
    everything = set().union(*read)
    for step, tokens in rows.select("treatment_step", "tokens").iter_rows():
        if step is None:
            assert tuple(tokens) not in everything
        elif exact:
            assert tuple(tokens) in read[step - 1]


def check_effects(bench: Bench, within: bool | None = True) -> None:
    """Rows that were read are remembered; 0 is within the interval of placebo rows, or above it.

    Parameters
    ----------
    within : whether placebo rows have no effect; None where there are no such rows.
    """
    ratio, line = bench.found()
    assert ratio > 3
    if within is not None:
        assert line["lower"] < line["att"] < line["upper"]
        assert (line["lower"] <= 0) == within
        assert line["upper"] >= 0


def permuted(rows: int, seed: int) -> np.ndarray:
    order = np.arange(rows, dtype=np.uint32)
    np.random.Generator(np.random.PCG64(seed)).shuffle(order)
    return order


@pytest.mark.parametrize("filtered", [True, False], ids=["masked", "not masked after all"])
def test_olmo_with_token_files_on_the_net_and_masked_rows(bench, filtered):
    content = text(400).astype(np.uint32)
    repeated = np.random.default_rng(2).random(400) < 0.2
    content[repeated, 2:38] = content[repeated, 2:3]
    files = {"d/b.npy": content[:250].tobytes(), "d/a.npy": content[250:].tobytes()}
    batches = list(content[permuted(400, 6198)[:256]].reshape(32, BATCH, TOKENS))
    with FileServer(files) as server:
        small = replace(
            runs.RUNS["olmo2-7b"],
            files=Listed(tuple(files), server.address),
            batch_size=BATCH,
            steps=32,
            row_tokens=TOKENS,
            rows_between=(400, 400),
        )
        bench.patch.setitem(runs.RUNS, "olmo2-7b", small)
        suite = bench.suite("olmo2-7b", 32)
        bench.train(
            suite,
            Olmo2Config(**SHAPE),
            batches,
            [0, 8, 16, 24, 32],
            masked=is_masked if filtered else nothing,
        )

        rows = bench.study(suite, [0, 8, 16, 24, 32], "placebo=60")

        asked = [entry for entry in server.log if entry[0] == "GET"]
    assert all(ranged for _, _, ranged in asked)
    check_steps(rows, batches)
    masked = is_masked(np.array(rows["tokens"].to_list()))
    assert (rows["placebo"].to_numpy() == masked).all()
    assert masked.sum() > 20
    check_effects(bench, within=filtered)


def test_olmo_core_with_a_skipped_step_and_rows_that_stay_together(bench):
    content = text(400).astype(np.uint32)
    folder = bench.folder / "files"
    folder.mkdir()
    content[:251].tofile(folder / "b.npy")
    content[251:].tofile(folder / "a.npy")
    # pairs stay together, and the odd last row of each file is never read
    kept = np.r_[0:250, 251:399]
    pairs = kept.reshape(-1, 2)[permuted(199, 34521 + 1)].ravel()
    batches = list(content[pairs[:256]].reshape(32, BATCH, TOKENS))
    small = replace(
        runs.RUNS["olmo3-7b"],
        files=Listed(("b.npy", "a.npy")),
        batch_size=BATCH,
        steps=32,
        row_tokens=TOKENS,
        together=2,
        rows_between=(398, 398),
    )
    bench.patch.setitem(runs.RUNS, "olmo3-7b", small)
    suite = bench.suite("olmo3-7b", 32, schedule="olmo_cosine")
    config = Olmo3Config(**SHAPE, sliding_window=16)
    bench.train(suite, config, batches, [0, 8, 16, 24, 32], skipped=13)

    rows = bench.study(
        suite, [0, 8, 16, 24, 32], "placebo=30", "skipped_steps=[13]", "store=../files"
    )

    check_steps(rows, batches)
    placebo = rows.filter("placebo")
    assert placebo["treatment_step"].to_list() == [13] * BATCH
    assert set(placebo["state"]) == {"in a skipped step"}
    assert not rows.filter(~pl.col("placebo"))["treatment_step"].eq(13).any()
    check_effects(bench)


def test_amber_with_files_of_json_lines_and_a_checkpoint_after_each(bench):
    content = text(5 * 68).reshape(5, 68, TOKENS)
    folder = bench.folder / "files"
    folder.mkdir()
    rng, batches = np.random.RandomState(11111), []
    for number, rows_of in enumerate(content):
        lines = [json.dumps({"token_ids": row.tolist(), "source": "c4"}) for row in rows_of]
        (folder / f"train_{number:03d}.jsonl").write_text("\n".join(lines))
        batches += list(rows_of[rng.permutation(68)[:64]].reshape(8, BATCH, TOKENS))
    small = replace(
        filed_runs.FILED_RUNS["amber"],
        files=5,
        file_rows=68,
        batch_size=BATCH,
        steps=40,
        row_tokens=TOKENS,
    )
    bench.patch.setitem(filed_runs.FILED_RUNS, "amber", small)
    suite = bench.suite("amber", 40, step_labels=8)
    assert [suite.revision_of(step) for step in (8, 40)] == ["ckpt_000", "ckpt_004"]
    bench.train(suite, LlamaConfig(**SHAPE), batches, [8, 16, 24, 32, 40])

    rows = bench.study(suite, [8, 16, 24, 32], "store=../files")

    # the step within a file is not published: rows are known by file, controls are of the last
    assert rows["batch"].is_null().all()
    of_file = {tuple(row): number for number in range(5) for row in content[number].tolist()}
    for step, tokens in rows.select("treatment_step", "tokens").iter_rows():
        assert of_file[tuple(tokens)] == (4 if step is None else (step - 1) // 8)
    check_effects(bench, within=None)


def test_pico_with_parquet_shards_on_the_hub(bench):
    content = text(400)
    files = {}
    for number in range(10):
        ids = np.arange(40 * number, 40 * number + 40)
        path = bench.folder / "shard.parquet"
        pl.DataFrame({"input_ids": content[ids].tolist(), "idx": ids}).write_parquet(path)
        files[f"data/train-{number:05d}-of-10000.parquet"] = path.read_bytes()
    bench.hub.add("dataset", "pico-lm/pretokenized-dolma", files)
    small = replace(
        filed_runs.FILED_RUNS["pico"],
        files=10,
        file_rows=40,
        batch_size=BATCH,
        steps=50,
        row_tokens=TOKENS,
    )
    bench.patch.setitem(filed_runs.FILED_RUNS, "pico", small)
    suite = bench.suite("pico", 50, warmup_steps=SLOWLY)
    batches = list(content[:256].reshape(32, BATCH, TOKENS))  # the run stopped before its end
    bench.train(suite, LlamaConfig(**SHAPE), batches, [0, 8, 16, 24, 32])

    rows = bench.study(suite, [0, 8, 16, 24, 32], "placebo=30")

    check_steps(rows, batches)
    placebo = rows.filter("placebo")
    assert placebo["treatment_step"].to_list() == [1] * BATCH
    assert set(placebo["state"]) == {"read at rate 0"}
    check_effects(bench)


def test_hubble_with_rows_packed_from_its_documents(bench):
    lengths = np.random.default_rng(3).integers(20, 90, 330)
    stream = Bigram.draw(VOCABULARY, seed=0, concentration=0.3).rows(1, int(lengths.sum()), seed=4)
    documents = np.split(stream[0].astype(np.uint16), np.cumsum(lengths)[:-1])
    MegatronStore.write(bench.folder / "corpus", documents, dtype=np.uint16)
    (bench.folder / "files").mkdir()
    packed = ["rows", str(bench.folder / "files" / "rows"), "--documents"]
    facts = {"--batch-size": BATCH, "--steps": 32, "--row-tokens": TOKENS, "--seed": 1234}
    options = [str(part) for pair in facts.items() for part in pair]
    split = ["--split", "969,30,1", "--never", "100"]
    assert run(app, [*packed, str(bench.folder / "corpus"), *options, *split]) == 0

    # the order by a plain loop over the documents of the train split
    stop = split_bounds("969,30,1", len(lengths))[1]
    order, starts, shuffle = index_maps(lengths.tolist(), 1234, 256, TOKENS - 1, 0, stop)
    flat = np.concatenate([documents[number] for number in order])
    first = np.cumsum([0, *(lengths[number] for number in order)])
    samples = [
        flat[first[document] + offset :][:TOKENS]
        for document, offset in (starts[number] for number in shuffle)
    ]
    batches = list(np.array(samples[:256]).reshape(32, BATCH, TOKENS))
    suite = bench.suite("hubble-100b-standard", 32, warmup_steps=SLOWLY)
    config = LlamaConfig(**SHAPE, num_key_value_heads=1)
    bench.train(suite, config, batches, [0, 8, 16, 24, 32])

    rows = bench.study(suite, [0, 8, 16, 24, 32], "placebo=30", "store=../files/rows")

    check_steps(rows, batches)
    assert rows.filter("placebo")["treatment_step"].to_list() == [1] * BATCH
    check_effects(bench)
