"""Published suites against their own sources: shapes, schedules, revisions, and the verb."""

import json
from dataclasses import replace

import numpy as np
import pytest

from data_order.published import CHECKPOINTS, ORDERS
from data_order.shuffled.filed_runs import FILED_RUNS
from data_order.shuffled.runs import RUNS
from pythia_profile.cli import app
from pythia_profile.cli.app import run
from pythia_profile.errors import NotFoundError, StudyError
from pythia_profile.suites.pythia import PUBLISHED
from pythia_profile.suites.registry import known_suites, open_suite, suite_facts_of

PYTHIA_PARAMETERS = {
    # all, and without embeddings: the table of the model cards of EleutherAI/pythia
    "70m": (70_426_624, 18_915_328),
    "160m": (162_322_944, 85_056_000),
    "410m": (405_334_016, 302_311_424),
    "1b": (1_011_781_632, 805_736_448),
    "1.4b": (1_414_647_808, 1_208_602_624),
    "2.8b": (2_775_208_960, 2_517_652_480),
    "6.9b": (6_857_302_016, 6_444_163_072),
    "12b": (11_846_072_320, 11_327_027_200),
}

BY_HAND = {
    # update g -> rate / peak: (g − 1)/1430 in the warm-up, then ½ (1 + cos(π (g − 1431)/143000)),
    # cut off at a tenth; the digits were worked out from this formula
    1: 0.0,
    2: 0.000699301,
    1431: 1.0,
    50_000: 0.741368,
    95_000: 0.266968,
    115_000: 0.100924,
    116_000: 0.1,
    143_000: 0.1,
}


@pytest.mark.parametrize("name", ["pythia", "pythia-deduped"])
def test_parameters_are_those_of_the_model_cards(name):
    sizes = suite_facts_of(name).sizes

    for size, (whole, body) in PYTHIA_PARAMETERS.items():
        assert (sizes[size].parameters, sizes[size].non_embedding) == (whole, body), size


@pytest.mark.parametrize(("size", "peak"), [("70m", 1.0e-3), ("6.9b", 1.2e-4)])
def test_rates_of_two_sizes_are_those_worked_out_by_hand(size, peak):
    suite = suite_facts_of("pythia")

    rates = suite.learning_rate(size, list(BY_HAND))

    expected = peak * np.array(list(BY_HAND.values()))
    assert rates == pytest.approx(expected, rel=1e-5)  # six digits are in the table above
    assert rates[0] == 0.0


def test_154_checkpoints_and_their_revisions():
    suite = suite_facts_of("pythia")

    assert len(CHECKPOINTS) == 154
    assert CHECKPOINTS[:12] == (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)
    for step in CHECKPOINTS:
        assert suite.step_of(suite.revision_of(step)) == step
    for other in ("main", "step", "step-1", "step01", "step1 ", "xstep1", "step1000x"):
        assert suite.step_of(other) is None, other


def test_labels_of_the_first_release_count_half_the_rows():
    suite = suite_facts_of("pythia-v0")

    assert suite.revision_of(500) == "step1000"
    assert suite.step_of("step1000") == 500
    assert suite.step_of("step1001") is None
    assert suite.order.rows == 146_432_000


def test_olmo_revisions_carry_steps_and_tokens():
    suite = suite_facts_of("olmo2-7b")

    assert suite.step_of("stage1-step101000-tokens424B") == 101_000
    assert suite.step_of("stage2-ingredient1-step1000-tokens5B") is None
    second = suite_facts_of("olmo2-7b-stage2", 2)
    assert second.step_of("stage2-ingredient2-step1000-tokens5B") == 1000
    assert second.step_of("stage2-ingredient1-step1000-tokens5B") is None
    assert "the order of its rows is not known" in " ".join(suite_facts_of("olmo-7b").notes)


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_every_published_suite_is_consistent(name):
    for suite in PUBLISHED[name]:
        assert suite.seed in suite.seeds
        for size in suite.sizes.values():
            assert size.width % size.heads == 0
            known = "rate is not known" not in " ".join(suite.notes)
            assert 0 <= size.min_lr < size.peak_lr if known else size.peak_lr == 0
            assert list(size.checkpoints) == sorted(set(size.checkpoints))
            assert not size.checkpoints or size.checkpoints[-1] <= suite.steps
            assert suite.repository(size.name) == size.weights
            rates = suite.learning_rate(size.name, [1, 2, suite.steps])
            # OLMo 2 counts the batch that is read, the others those that have been
            assert (rates[0] > 0) == (known and suite.schedule.startswith("olmo"))
            assert (rates[1] > 0) == known
        for fault in suite.faults:
            assert fault.size in ("", *suite.sizes)
            assert all("#" in thread for thread in fault.threads)


def test_polypythias_have_ten_seeds_and_a_wrong_one_is_named():
    weights = {seed: open_suite("polypythias", seed=seed).size("70m").weights for seed in range(10)}

    assert len(set(weights.values())) == 10
    assert weights[3] == "EleutherAI/pythia-70m-seed3"
    with pytest.raises(NotFoundError, match="no training seed 10 of suite 'polypythias'"):
        open_suite("polypythias", seed=10)


def test_the_verb_prints_all_one_and_one_size(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert run(app, ["suites"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == known_suites()
    assert run(app, ["suites", "--json"]) == 0
    assert [line["name"] for line in json.loads(capsys.readouterr().out)] == known_suites()
    assert run(app, ["suites", "pythia-deduped"]) == 0
    said = capsys.readouterr().out
    assert "EleutherAI/pythia-12b-deduped" in said
    assert "EleutherAI/pythia#108" in said
    assert run(app, ["suites", "pythia", "--size", "410m", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["layers"], facts["width"], facts["heads"]) == (24, 1024, 16)
    assert facts["learning_rate"]["1431"] == pytest.approx(3e-4)
    assert len(facts["checkpoint_steps"]) == 154


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pythia-dedup"], "no suite 'pythia-dedup'; did you mean 'pythia-deduped'?"),
        (["pythia", "--size", "410"], "did you mean '410m'?"),
        (["polypythias", "--seed", "11"], "no training seed 11"),
        (["--size", "70m"], "--size needs the name of a suite"),
    ],
)
def test_a_typo_is_answered_with_near_matches(capsys, arguments, message):
    assert run(app, ["suites", *arguments]) == 2
    assert message in capsys.readouterr().err


PUBLISHED_ORDERS = {**ORDERS, **RUNS, **FILED_RUNS}
NAMES = sorted({*PUBLISHED, *PUBLISHED_ORDERS})


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_a_suite_and_if_it_can_be_replayed_an_order(capsys, name):
    suite = suite_facts_of(name)

    assert run(app, ["suites", name]) == 0
    code = run(app, ["order", "--suite", name, "--step", "3", "--show", "1"])
    said = capsys.readouterr()
    if suite.published or suite.data_seed is not None:
        assert not suite.published or suite.order == PUBLISHED_ORDERS[suite.published]
        first = 2 * suite.batch_size
        assert (code, f"reads rows {first:,} to" in said.out) == (0, True)
    else:
        assert code == 2
        assert "not replayable here" in said.err


def test_the_name_of_an_order_is_the_run_that_read_it(tmp_path, capsys):
    suite = open_suite("pythia-seed3", ["70m"], seed=3)

    assert (suite.name, suite.seed, suite.order.seed) == ("polypythias", 3, 3)
    assert run(app, ["init", str(tmp_path / "s"), "--suite", "pythia-seed3", "--sizes", "70m"]) == 0
    assert "training_seed = 3" in (tmp_path / "s/study.toml").read_text()
    assert run(app, ["order", "--suite", "polypythias", "--training-seed", "3", "--step", "1"]) == 0
    assert run(app, ["suites", "pythia-seed33"]) == 2
    assert "did you mean 'pythia-seed3'" in capsys.readouterr().err


def test_a_suite_and_its_published_order_cannot_differ():
    suite = suite_facts_of("pythia")

    with pytest.raises(StudyError, match="71 steps of 1024 rows are not the published order 'py"):
        replace(suite, steps=71, warmup_steps=1)


@pytest.mark.parametrize("name", ["pythia", "pythia-deduped"])
def test_the_other_initialization_of_the_two_largest_is_among_the_known_faults(name):
    noted = {
        fault.size
        for fault in suite_facts_of(name).faults
        if "EleutherAI/pythia#135" in fault.threads
    }

    assert noted == {"6.9b", "12b"}
