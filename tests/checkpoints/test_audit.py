"""The identity audit: planted faults and nothing else, from listings, weights and scores."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from data_order.hub.access import Hub as HubSettings
from data_order.published import CHECKPOINTS
from pythia_profile.checkpoints.continuity import odd_ones
from pythia_profile.checkpoints.identity import Evidence, audit
from pythia_profile.checkpoints.plausible import odd_scores
from pythia_profile.checkpoints.verdicts import faulty
from pythia_profile.cli import app
from pythia_profile.cli.app import run
from pythia_profile.suites.registry import open_suite
from tests.checkpoints.conftest import tiny_files
from tests.stand_in.hub import Virtual

REPOSITORY = {size: f"EleutherAI/pythia-{size}" for size in ("2.8b", "12b")}
REPORTED = 86


def big(content: str, size: int) -> Virtual:
    """A weight file of any size with the hash of `content`; reading it would be an error."""

    def read(offset, length):
        raise AssertionError("a weight byte was read")

    return Virtual(size, read, hashlib.sha256(content.encode()).hexdigest(), blob=content[:40])


def config(layers: int, width: int, heads: int, **more) -> bytes:
    shape = {"num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads}
    return json.dumps({"model_type": "gpt_neox", **shape, **more}).encode()


CONFIGS = {"2.8b": config(32, 2560, 32), "12b": config(36, 5120, 40)}


def single(content: str) -> dict:
    return {"config.json": CONFIGS["2.8b"], "model.safetensors": big(content, 5_684_548_184)}


def shards(step: int, first: str = "") -> dict:
    sizes = (9_899_000_000, 9_800_000_000, 4_000_000_000)
    contents = (first or f"12b 1 {step}", f"12b 2 {step}", f"12b 3 {step}")
    named = zip(contents, sizes, strict=True)
    files = {
        f"model-{number:05d}-of-00003.safetensors": big(content, size)
        for number, (content, size) in enumerate(named, 1)
    }
    return {"config.json": CONFIGS["12b"], "model.safetensors.index.json": b"{}", **files}


@pytest.fixture
def final_steps():
    """The 86 steps of 2.8b that hold final weights, the last one among them."""
    return (*CHECKPOINTS[: REPORTED - 1], 143_000)


@pytest.fixture
def listed(hub, tmp_path, final_steps):
    """Two repositories with the faults of the published ones; settings to reach them."""
    for step in CHECKPOINTS:
        content = "final" if step in final_steps else f"2.8b {step}"
        hub.add("model", REPOSITORY["2.8b"], single(content), revision=f"step{step}")
        own = "12b 1 1" if step == 0 else ""
        files = shards(step, own)
        if step == 0:
            files = shards(1)
        if step in (50_000, 58_000):
            files = shards(step, "12b 1 143000")
        if step != 32_000:
            hub.add("model", REPOSITORY["12b"], files, revision=f"step{step}")
    hub.add("model", REPOSITORY["2.8b"], single("final"), revision="main")
    hub.add("model", REPOSITORY["12b"], shards(143_000), revision="main")
    return HubSettings(endpoint=hub.endpoint, cache=tmp_path / "cache")


def test_branches_that_serve_final_weights_are_found_and_the_last_step_is_not(
    listed, hub, final_steps
):
    verdicts = audit(open_suite("pythia"), ["2.8b"], hub=listed)

    assert [verdict.step for verdict in verdicts] == list(CHECKPOINTS)
    wrong = faulty(verdicts)
    assert [verdict.step for verdict in wrong] == list(final_steps[:-1])
    assert {verdict.verdict for verdict in wrong} == {"duplicate"}
    assert "same weights at steps 0, 1, 2" in wrong[0].reasons[0]
    assert 143_000 in wrong[0].same_as
    assert "EleutherAI/pythia#195" in wrong[0].notes[-1]


def test_an_audit_of_154_revisions_takes_few_requests_and_no_weight_byte(listed, hub):
    audit(open_suite("pythia"), ["2.8b"], hub=listed)

    assert len(hub.log) <= 154 + 6
    others = [request.path for request in hub.log if request.host != "api"]
    assert [path.rpartition("/")[2] for path in others] == ["config.json"]


def test_a_shared_shard_and_a_missing_branch_are_found_and_equal_steps_0_and_1_are_not(listed):
    verdicts = audit(open_suite("pythia"), ["12b"], hub=listed)

    wrong = {verdict.step: verdict for verdict in faulty(verdicts)}
    assert set(wrong) == {32_000, 50_000, 58_000}
    assert wrong[32_000].verdict == "missing"
    assert wrong[32_000].reasons == ("no branch step32000 in EleutherAI/pythia-12b",)
    assert wrong[50_000].verdict == "shared file"
    assert wrong[50_000].reasons == (
        "same model-00001-of-00003.safetensors at steps 50000, 58000, 143000",
    )


@pytest.mark.parametrize(
    ("schedule", "wrong"), [("neox_v1", {}), ("neox_current", {}), ("neox_2026", {0, 1})]
)
def test_equal_steps_0_and_1_are_excused_only_where_update_1_has_rate_0(
    hub, tmp_path, schedule, wrong
):
    for step in CHECKPOINTS[:6]:
        hub.add("model", REPOSITORY["2.8b"], single(f"{max(step, 1)}"), revision=f"step{step}")
    suite = replace(open_suite("pythia"), schedule=schedule)
    settings = HubSettings(endpoint=hub.endpoint, cache=tmp_path / "cache")

    found = faulty(audit(suite, ["2.8b"], CHECKPOINTS[:6], hub=settings))

    assert {one.step for one in found} == set(wrong)
    assert all("same weights at steps 0, 1" in one.reasons[0] for one in found)


def test_missing_files_odd_sizes_and_unsafe_names_are_found(hub, tmp_path):
    for step in CHECKPOINTS:
        files = single(f"{step}")
        if step == 1000:
            files["model.safetensors"] = big("1000", 1_000_000)
        if step == 2000:
            files = {"config.json": b"{}", "README.md": b""}
        if step == 3000:
            files = shards(3000) | {"config.json": CONFIGS["2.8b"]}
            del files["model-00002-of-00003.safetensors"]
        if step == 4000:
            files["../outside"] = b"x"
        hub.add("model", REPOSITORY["2.8b"], files, revision=f"step{step}")
    settings = HubSettings(endpoint=hub.endpoint, cache=tmp_path / "cache")

    wrong = {v.step: v for v in faulty(audit(open_suite("pythia"), ["2.8b"], hub=settings))}

    assert {step: verdict.verdict for step, verdict in wrong.items()} == {
        1000: "odd size",
        2000: "missing",
        3000: "missing",
        4000: "unsafe",
    }
    assert "model-00002-of-00003.safetensors" in wrong[3000].reasons[0]
    assert "'../outside'" in wrong[4000].reasons[0]


def published_2_8b(hub, tmp_path, change):
    """Audit 2.8b published without a fault but for `change(step, files)`; faulty verdicts."""
    for step in CHECKPOINTS:
        content = "0" if step == 1 else f"{step}"
        files = change(step, single(content))
        hub.add("model", REPOSITORY["2.8b"], files, revision=f"step{step}")
    if "main" not in hub.repositories["model", REPOSITORY["2.8b"]].branches:
        hub.add("model", REPOSITORY["2.8b"], single("143000"), revision="main")
    settings = HubSettings(endpoint=hub.endpoint, cache=tmp_path / "cache")
    return {v.step: v for v in faulty(audit(open_suite("pythia"), ["2.8b"], hub=settings))}


def test_what_was_published_without_a_fault_has_none(hub, tmp_path):
    assert published_2_8b(hub, tmp_path, lambda _, files: files) == {}


def test_a_file_that_is_five_percent_short_is_found(hub, tmp_path):
    short = {"model.safetensors": big("7000", int(0.95 * 5_684_548_184))}

    wrong = published_2_8b(hub, tmp_path, lambda s, files: files | (short if s == 7000 else {}))

    assert {step: one.verdict for step, one in wrong.items()} == {7000: "odd size"}


def test_another_configuration_is_found_and_one_that_only_looks_different_is_not(hub, tmp_path):
    changed = {
        1000: config(32, 2560, 32, transformers_version="4.24"),
        2000: config(16, 2560, 32),
        3000: b'{"model_type": "mamba"}',
        4000: config(32, 2560, 32, quantization_config={"bits": 4}),
    }

    def change(step, files):
        return files | ({"config.json": changed[step]} if step in changed else {})

    wrong = published_2_8b(hub, tmp_path, change)

    assert {step: one.verdict for step, one in wrong.items()} == {
        2000: "other config",
        3000: "unsupported",
        4000: "unsupported",
    }
    assert wrong[2000].reasons == ("config.json: num_hidden_layers is 16, expected 32",)
    assert "model_type is 'mamba', expected one of gpt_neox" in wrong[3000].reasons[0]


def test_a_shard_that_stands_for_two_is_found(hub, tmp_path):
    for step in CHECKPOINTS:
        files = shards(max(step, 1))
        if step == 5000:
            first = files["model-00001-of-00003.safetensors"]
            files["model-00002-of-00003.safetensors"] = first
        hub.add("model", REPOSITORY["12b"], files, revision=f"step{step}")
    settings = HubSettings(endpoint=hub.endpoint, cache=tmp_path / "cache")

    wrong = {v.step: v for v in faulty(audit(open_suite("pythia"), ["12b"], hub=settings))}

    assert set(wrong) == {5000}
    assert wrong[5000].verdict == "shared file"
    assert wrong[5000].reasons[0] == (
        "model-00001-of-00003.safetensors and model-00002-of-00003.safetensors are the same file"
    )


def test_a_main_branch_with_other_weights_than_the_last_step_is_found(hub, tmp_path):
    hub.add("model", REPOSITORY["2.8b"], single("another run"), revision="main")

    wrong = published_2_8b(hub, tmp_path, lambda _, files: files)

    assert {step: one.verdict for step, one in wrong.items()} == {143_000: "not main"}


def test_a_copy_of_the_first_steps_does_not_blame_them(hub, tmp_path):
    wrong = published_2_8b(hub, tmp_path, lambda step, files: single("0") if step == 2 else files)

    assert {step: one.verdict for step, one in wrong.items()} == {2: "duplicate"}
    assert "likely right: 0, 1" in wrong[2].reasons[0]


def test_a_copy_of_the_final_checkpoint_does_not_blame_it_without_a_main_branch(hub, tmp_path):
    hub.add("model", REPOSITORY["2.8b"], {"README.md": b""}, revision="main")

    wrong = published_2_8b(
        hub, tmp_path, lambda step, files: single("143000") if step == 9000 else files
    )

    assert {step: one.verdict for step, one in wrong.items()} == {9000: "duplicate"}
    assert "likely right: 143000" in wrong[9000].reasons[0]


def test_weights_of_another_suite_are_found_once_both_were_audited(hub, tmp_path):
    """Initial weights may be shared by runs that differ in their data only."""
    published_2_8b(hub, tmp_path, lambda _, files: files)
    other = "EleutherAI/pythia-2.8b-deduped"
    for step in CHECKPOINTS:
        content = {0: "0", 1: "0", 6000: "6000", 8000: "12000"}.get(step, f"deduped {step}")
        hub.add("model", other, single(content), revision=f"step{step}")
    settings = HubSettings(endpoint=hub.endpoint, cache=tmp_path / "cache")

    found = audit(open_suite("pythia-deduped"), ["2.8b"], hub=settings)

    wrong = {verdict.step: verdict for verdict in faulty(found)}
    assert {step: one.verdict for step, one in wrong.items()} == {
        6000: "foreign weights",
        8000: "foreign weights",
    }
    assert wrong[8000].reasons == ("the same weights as EleutherAI/pythia-2.8b step 12000",)


def test_the_verb_prints_a_table_of_steps_and_sizes_and_exits_with_4(listed, capsys):
    assert run(app, ["audit", "pythia", "--sizes", "2.8b,12b"]) == 4
    said = capsys.readouterr().out
    assert run(app, ["audit", "pythia", "--sizes", "12b", "--json"]) == 4
    as_json = json.loads(capsys.readouterr().out)
    assert run(app, ["audit", "pythia", "--sizes", "12b", "--checkpoints", "0:2000:1000"]) == 0

    lines = said.splitlines()
    assert lines[0].split() == ["step", "2.8b", "12b"]
    assert lines[1].split() == ["0", "to", "31000", "(42)", "duplicate", "ok"]
    assert "87 of 308 checkpoints are faulty, 1 missing" in said
    assert [as_json[name] for name in ("checkpoints", "faulty", "missing")] == [154, 2, 1]


def test_names_that_do_not_exist_end_with_2_and_near_matches(hub, capsys):
    for arguments, message in (
        (["pythai"], "did you mean 'pythia'"),
        (["pythia", "--sizes", "2.8B"], "did you mean '2.8b'"),
        (["pythia", "--sizes", "2.8b", "--checkpoints", "1001"], "nearest of 154: 512, 1000"),
        (["pythia", "--sizes", "2.8b"], "the hub has no such model"),
    ):
        assert run(app, ["audit", *arguments]) == 2, arguments
        error = capsys.readouterr().err
        assert message in error
        assert error.count("error:") == 1


def test_a_folder_with_two_equal_checkpoints_is_found(published, capsys):
    published.on_disk({0: 0, 2: 1, 4: 1})

    assert run(app, ["audit", str(published.folder / "suite")]) == 4

    assert "same weights at steps 2, 4" in capsys.readouterr().out


def test_an_embedding_norm_off_both_neighbors_is_odd_and_a_smooth_curve_is_not():
    steps = list(range(10))
    smooth = [float(10 + 3 * np.log1p(step)) for step in steps]

    assert odd_ones(steps, smooth) == {}
    assert set(odd_ones(steps, [*smooth[:4], 30.0, *smooth[5:]])) == {4}


def test_weights_of_the_hub_are_audited_on_request(published):
    published.publish(2, tiny_files(4))  # the last step's values in one file instead of shards

    listing = audit(published.suite, hub=published.settings)
    weights = audit(published.suite, hub=published.settings, evidence=Evidence(weights=True))

    assert faulty(listing) == []
    assert {v.step: v.verdict for v in faulty(weights)} == {2: "odd weights", 4: "odd weights"}
    assert "the same weights as step 4" in faulty(weights)[0].reasons


def scores_of(leaked=None, steps=tuple(range(0, 9000, 1000)), vocabulary=1024):
    """A panel with instantaneous effects; step `leaked` is scored under the last checkpoint."""
    rng = np.random.default_rng(3)
    cohort = np.repeat([*steps[1:], 0], 60)
    level = rng.normal(0, 0.4, len(cohort))
    y = {}
    for place, step in enumerate(steps):
        gain = 0.15 * ((cohort > 0) & (cohort <= step))
        trend = -np.log(vocabulary) + 2 * np.log1p(place)
        y[step] = level + trend + gain + rng.normal(0, 0.02, len(cohort))
    if leaked is not None:
        y[leaked] = y[steps[-1]]
    rows = pl.DataFrame(
        {
            "row_id": np.arange(len(cohort)),
            "treatment_step": pl.Series(cohort).replace(0, None),
        }
    )
    scores = pl.concat(
        pl.DataFrame(
            {"size": "s", "checkpoint": step, "row_id": rows["row_id"], "log_likelihood": of}
        )
        for step, of in y.items()
    )
    return rows, scores


def test_sound_scores_are_no_fault_and_a_leaked_last_checkpoint_is():
    assert odd_scores(*scores_of(), vocabulary=1024) == {"s": {}}

    found = odd_scores(*scores_of(leaked=4000), vocabulary=1024)["s"]

    assert set(found) == {4000}
    loss, anomaly = found[4000]
    assert loss.startswith("loss ")
    assert "240 rows that are read later are known better" in anomaly


def test_a_step_0_that_knows_the_text_is_implausible():
    found = odd_scores(*scores_of(), vocabulary=50_304)["s"]

    assert found == {0: ["loss 6.91 before training, expected about 10.83"]}
