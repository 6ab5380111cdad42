"""The rows that a report shows as text: picked by their own change, read by the model itself."""

import numpy as np
import polars as pl
import pytest
import torch
from tokenizers import Tokenizer
from transformers import GPTNeoXForCausalLM

from pythia_profile.did.settings import Estimation
from pythia_profile.errors import EstimationError, StudyError
from pythia_profile.pipeline.remembered import extreme_rows
from pythia_profile.pipeline.running import run_stage
from pythia_profile.profiles.estimates import estimate
from pythia_profile.study import create_study, new_study

pytestmark = pytest.mark.slow


def test_the_rows_at_the_ends_are_those_of_a_loop_over_all(planted):
    rows, scores = planted(lambda _, cohort, __: cohort / 50)
    y = {(r, c): v for r, c, v in scores.select("row_id", "checkpoint", "log_likelihood").rows()}
    step = dict(rows.select("row_id", "treatment_step").rows())
    never = [row for row, cohort in step.items() if cohort is None]
    effect = {}
    for row, cohort in step.items():
        if cohort is not None:
            base = cohort - 10
            control = np.mean([y[r, cohort] - y[r, base] for r in never])
            effect[row] = y[row, cohort] - y[row, base] - control
    order = sorted(effect, key=effect.get, reverse=True)

    (one,) = estimate(rows, scores).runs
    found = extreme_rows(one, most=4)

    assert found["row_id"].to_list() == order[:4] + order[:-5:-1]
    assert found["rank"].to_list() == [1, 2, 3, 4, -1, -2, -3, -4]
    assert found["effect"].to_list() == pytest.approx([effect[r] for r in found["row_id"]])
    assert (found["cohort"] - found["base"]).to_list() == [10] * 8


def test_without_controls_no_row_is_extreme(planted):
    rows, scores = planted(lambda *_: 0.1)
    treated = rows.filter(pl.col("treatment_step").is_not_null())
    (one,) = estimate(treated, scores, Estimation(control="not_yet")).runs

    with pytest.raises(EstimationError, match="rows that were not are needed"):
        extreme_rows(one)


@pytest.fixture(scope="module")
def study(tiny_suite, tmp_path_factory):
    folder = tmp_path_factory.mktemp("remembered") / "study"
    settings = {**tiny_suite.study_defaults, "draws": 50, "show_rows": "yes"}
    create_study(folder, new_study(str(tiny_suite.root), ("xs",), settings))
    for stage in ("sample", "covariates", "score", "remembered"):
        run_stage(folder, stage)
    return folder


def test_changes_are_those_of_the_model_before_and_after_the_row_was_read(study, tiny_suite):
    table = pl.read_parquet(study / "remembered.parquet")
    tokenizer = Tokenizer.from_file(str(tiny_suite.root / tiny_suite.tokenizer))
    rows = dict(pl.read_parquet(study / "rows.parquet").select("row_id", "tokens").iter_rows())

    assert table["rank"].to_list() == [1, 2, 3, -1, -2, -3]
    for line in table.iter_rows(named=True):
        tokens = rows[line["row_id"]]
        ids, by_step = torch.tensor([tokens]), {}
        for step in (line["base"], line["cohort"]):
            folder = tiny_suite.root / "xs" / f"step{step}"
            model = GPTNeoXForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
            with torch.no_grad():
                logits = model(ids).logits[0, :-1].log_softmax(-1)
            by_step[step] = logits.gather(1, ids[0, 1:, None])[:, 0].numpy()
        expected = by_step[line["cohort"]] - by_step[line["base"]]
        # surprisals are kept in half precision: 8 nats to 0.004, twice
        assert line["changes"][1:] == pytest.approx(expected.tolist(), abs=0.01)
        assert line["changes"][0] == 0
        assert line["tokens"] == [tokenizer.decode([token]) for token in tokens]


def test_text_of_other_suites_is_not_shown_unless_asked_for(study, tiny_suite, tmp_path):
    create_study(tmp_path, new_study(str(tiny_suite.root), ("xs",)))

    with pytest.raises(StudyError, match="set show_rows = 'yes'"):
        run_stage(tmp_path, "remembered")
    assert new_study("mini", ("xs",)).shows_rows
    assert not new_study("mini", ("xs",), {"show_rows": "no"}).shows_rows
