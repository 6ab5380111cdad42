"""Every recipe of the documentation, run as it stands, on the tiny suite in place of mini."""

import contextlib
import io
import json
import re
import shlex
from importlib import import_module
from pathlib import Path

import polars as pl
import pytest
import torch
from tokenizers import Tokenizer
from transformers import GPTNeoXForCausalLM

import pythia_profile as pp
from data_order.store.megatron import MegatronStore
from pythia_profile.cli import app
from pythia_profile.cli.app import run
from pythia_profile.execute.worker import Worker

pytestmark = pytest.mark.slow
PAGE = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)


def in_process(function, units, resources, on_part):
    """Score in this process: workers take seconds to begin."""
    return [function(unit, Worker("cpu", 1, lambda _: None)) for unit in units[:1]]


def tune(folder: Path, suite) -> None:
    """Write what the recipe of a fine-tune begins with: two models, and two texts."""
    tokenizer = Tokenizer.from_file(str(suite.root / suite.tokenizer))
    store = MegatronStore(suite.root / suite.store)
    for name, step in (("base", 0), ("tuned", 64)):
        (folder / name).symlink_to(suite.root / f"xs/step{step}", target_is_directory=True)
    for name, rows in (("train", range(200)), ("other", range(512, 600))):
        lines = [json.dumps({"text": tokenizer.decode(store[row].tolist())}) for row in rows]
        (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")


@pytest.fixture(scope="module")
def done(tiny_suite, tmp_path_factory):
    """Run the page; return its names, what its commands printed, and the folder."""
    folder = tmp_path_factory.mktemp("recipes")
    tune(folder, tiny_suite)
    words = {
        "--suite mini --sizes m": f"--suite {tiny_suite.root} --sizes s",
        '"mini"': repr(str(tiny_suite.root)),
        "first_64": "first_8",  # rows have 17 tokens
        "init my-tune": "init my-tune --row-tokens 17 --tokenizer "
        f"{tiny_suite.root / tiny_suite.tokenizer}",
        "seed=1": "seed=1, rows_per_cohort=48, batches_per_cohort=0, never_treated=96",
        'sizes=("xs", "s")': 'sizes=("xs", "s"), sample=SAMPLE, estimate=DRAWS',
        'sizes=("xs",)': 'sizes=("xs",), sample=SAMPLE, estimate=DRAWS',
    }
    names = {
        "SAMPLE": pp.Sampling(rows_per_cohort=24, batches_per_cohort=0, never_treated=96),
        "DRAWS": pp.Estimation(draws=50),
    }
    printed = {}
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
        patch.chdir(folder)
        patch.setattr(import_module("pythia_profile.scoring.run"), "map_units", in_process)
        for language, block in BLOCKS:
            for old, new in words.items():
                block = block.replace(old, new)
            if language == "python":
                exec(block, names)
                continue
            for line in block.splitlines():
                _, *arguments = shlex.split(line)
                at = out.tell()
                assert run(app, arguments) == 0, line
                printed[line.split(" --")[0]] = out.getvalue()[at:]
    return names, printed, folder


def test_a_study_from_python_ends_in_a_report(done):
    names, _, folder = done

    assert (folder / names["page"]).stat().st_size > 50_000
    assert names["study"].summary["size"].unique().sort().to_list() == ["s", "xs"]


def test_only_one_size_is_scored(done):
    _, _, folder = done

    assert pl.read_parquet(folder / "only-m/att.parquet")["size"].unique().to_list() == ["s"]


def test_late_minus_early_is_the_difference_of_the_cohorts_own_effects(done, tiny_suite):
    names, _, _ = done
    att = names["study"].att.filter(outcome="log_likelihood")
    now = att.filter(pl.col("cohort") == pl.col("checkpoint")).sort("cohort")

    for line in names["late_minus_early"].iter_rows(named=True):
        own = now.filter(pl.col("size") == line["group_a"].split(",")[0])["att"].to_list()
        # four cohorts of 24 rows each, so a mean over rows is one over cohorts
        by_hand = (own[2] + own[3] - own[0] - own[1]) / 2
        assert line["att"] == pytest.approx(by_hand, abs=1e-9)


def test_the_first_tokens_are_those_of_the_models_own_loss(done, tiny_suite):
    names, _, folder = done
    row = pl.read_parquet(folder / "my-study/rows.parquet").row(5, named=True)
    model = GPTNeoXForCausalLM.from_pretrained(tiny_suite.root / "xs/step32").eval()
    ids = torch.tensor([row["tokens"][:9]])
    with torch.no_grad():
        loss = model(ids, labels=ids).loss.item()

    scores = pl.read_parquet(folder / "my-study/scores/**/*.parquet")
    chosen = pl.col("row_id") == row["row_id"], pl.col("checkpoint") == 32, pl.col("size") == "xs"
    found = scores.filter(*chosen)["log_likelihood_first_8"].item()
    # float32, in a batch of another shape
    assert found == pytest.approx(-loss, abs=2e-5)
    assert names["first"]["att"].null_count() < len(names["first"])


def test_rows_of_ones_own_are_the_ones_that_are_scored(done):
    names, _, folder = done
    mine = names["mine"]

    kept = pl.read_parquet(folder / "own-rows/rows.parquet")
    assert kept["row_id"].equals(mine["row_id"])
    assert set(names["scores"]["row_id"]) == set(mine["row_id"])
    assert names["effects"].att["att"].is_finite().any()


def test_the_table_for_latex_holds_the_numbers_of_the_study(done):
    names, _, _ = done

    for line in names["study"].summary.iter_rows(named=True):
        cells = [value.replace("±", r"$\pm$") for value in (line["at once"], line["at the end"])]
        assert any(all(cell in row for cell in cells) for row in names["latex"].splitlines())
    # a head, a rule, and for two sizes and two outcomes four cohorts and their mean
    assert len(names["markdown"].splitlines()) == 2 + 2 * 2 * 5


def test_every_source_that_the_report_names_is_cited(done):
    _, printed, folder = done

    keys = re.findall(r"^@\w+\{(\w+),$", printed["pythia-profile cite my-study"], re.MULTILINE)
    page = (folder / "my-study/report.html").read_text()
    assert len(keys) > 5
    assert {*re.findall(r"^@\w+\{(\w+),$", page, re.MULTILINE)} <= {*keys}


def test_what_runs_again_is_named_with_its_reason(done):
    _, printed, _ = done

    assert (
        "estimate.draws is 50 before, 500 now" in printed["pythia-profile set my-study draws=500"]
    )
    lines = printed["pythia-profile run my-study"].splitlines()
    states = {line.split()[0]: line for line in lines if line.strip()}
    assert states["score"].split(maxsplit=1)[1] == "up to date"
    assert states["att"].endswith("estimate.draws 50 → 500")


def test_two_studies_are_shown_side_by_side(done):
    _, printed, _ = done
    text = printed["pythia-profile compare my-study own-rows"]

    assert re.search(r"^sizes +xs, s +xs$", text, re.MULTILINE)
    assert re.search(r"^estimate.draws +500 +50$", text, re.MULTILINE)
    assert "instantaneous" in text


def test_a_fine_tune_ends_in_a_report(done):
    _, _, folder = done

    assert (folder / "my-tune/report.html").stat().st_size > 50_000
