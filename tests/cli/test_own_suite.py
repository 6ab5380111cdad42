"""The verb `suite`: a draft of a run of one's own, and everything that is wrong with it at once."""

import json

import numpy as np
import pytest
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from data_order import MegatronStore
from pythia_profile.cli import app
from pythia_profile.cli.app import run
from pythia_profile.suites.folder import read_suite
from pythia_profile.suites.sampling import open_rows
from pythia_profile.training.languages import uniform_rows


@pytest.fixture
def folder(tmp_path):
    """Three checkpoints of a run of 20 steps of 8 rows, and its rows as .npy."""
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = GPTNeoXConfig(vocab_size=50, intermediate_size=32, max_position_embeddings=16, **shape)
    for step in (0, 10, 20):
        torch.manual_seed(step)
        model = GPTNeoXForCausalLM(config)
        model.save_pretrained(tmp_path / "own" / "s" / f"global_step{step}")
    np.save(tmp_path / "own" / "rows.npy", uniform_rows(300, 9, 50, seed=0).astype(np.uint16))
    return tmp_path / "own"


def suite(capsys, *arguments):
    code = run(app, ["suite", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_draft_holds_what_the_folder_tells_and_a_study_can_begin(capsys, folder):
    code, out, _ = suite(capsys, "new", folder, "--batch-size", 8, "--peak-lr", "1e-3")

    assert code == 0
    assert "rows: 0 to 159 are read, 140 past the last step are never-treated" in out
    assert "s: 3 of 3 checkpoints, 2 layers of width 16" in out
    tokens = np.load(folder / "rows.npy")
    assert f"row 0, read by step 1: {' '.join(map(str, tokens[0]))}" in out
    made = read_suite(folder)
    model = GPTNeoXForCausalLM.from_pretrained(folder / "s" / "global_step0")
    assert made.size("s").parameters == model.num_parameters()
    assert made.size("s").checkpoints == (0, 10, 20)
    assert (made.steps, made.row_tokens, made.revision) == (20, 9, "global_step{label}")
    study = folder.parent / "study"
    begin = out.splitlines()[-1].removeprefix("begin a study: pythia-profile ").split()
    assert run(app, [str(study) if part == "STUDY" else part for part in begin]) == 0
    assert run(app, ["sample", str(study)]) == 0


def test_what_is_wrong_is_said_all_at_once(capsys, folder):
    suite(capsys, "new", folder, "--batch-size", 8)
    path = folder / "suite.toml"
    text = path.read_text()
    (folder / "s" / "global_step20").rename(folder / "s" / "elsewhere")
    changes = {"batch_size = 8": "batch_size = 16", "width = 16": "width = 32"}
    for old, new in {**changes, "vocabulary = 50": "vocabulary = 40"}.items():
        text = text.replace(old, new)
    path.write_text(text)

    code, out, _ = suite(capsys, "check", folder)

    assert code == 2
    assert "rows: the store has 300, 20 steps of 16 read 320" in out
    assert "s, checkpoints 20: missing: no folder global_step20" in out
    assert "hidden_size" in out
    path.write_text(text.replace("batch_size = 16", "batch_size = 4"))
    code, out, _ = suite(capsys, "check", folder, "--json")
    found = json.loads(out)
    assert any("expected 0 to 39" in fault for fault in found["faults"])
    path.write_text("format = 1\nbatch_size = 0\nsteps = -1\n")
    code, out, _ = suite(capsys, "check", folder)
    assert code == 2
    for name in ("name", "title", "row_tokens", "vocabulary", "schedule", "seed", "sizes"):
        assert name in out
    path.write_text(
        text.replace("batch_size = 16", "batch_size = 0").replace("steps = 20", "steps = 0")
    )
    _, out, _ = suite(capsys, "check", folder)
    assert "batch_size is 0, expected at least 1; steps is 0, expected at least 1" in out


def test_the_kinds_of_runs_differ_in_what_they_ask_for(capsys, folder):
    for kind, revision, schedule in (
        ("neox", "global_step{label}", "neox_current"),
        ("megatron", "iter_{label:07}", "neox_current"),
        ("core", "step{label}", "olmo_cosine"),
    ):
        bare = folder.parent / kind
        bare.mkdir()
        code, out, _ = suite(capsys, "new", bare, "--kind", kind, "--batch-size", 8, "--seed", 7)
        text = (bare / "suite.toml").read_text()
        assert code == 2
        assert "to mend" in out
        assert f'revision = "{revision}"' in text
        assert f'schedule = "{schedule}"' in text
        assert ("[token_files]" in text) == (kind == "core")
        assert ("pythia-profile rows" in text.split("format")[0]) == (kind != "core")
        assert "seed = 7" in text
    code, _, said = suite(capsys, "new", folder.parent / "core")
    assert (code, "exists; `suite check" in said) == (2, True)
    code, _, said = suite(capsys, "new", folder.parent / "nowhere")
    assert (code, "no folder" in said) == (2, True)


def test_rows_of_an_own_run_of_olmo_core_are_its_token_files_in_its_order(capsys, folder):
    content = uniform_rows(300, 9, 50, seed=1).astype(np.uint32)
    (folder / "rows.npy").unlink()
    (folder / "data").mkdir()
    content[:200].tofile(folder / "data" / "b.npy")
    content[200:].tofile(folder / "data" / "a.npy")
    suite(capsys, "new", folder, "--kind", "core", "--batch-size", 8, "--seed", 5)
    path = folder / "suite.toml"
    text = path.read_text()
    assert '    "data/a.npy",\n    "data/b.npy",\n' in text
    text = text.replace(
        '    "data/a.npy",\n    "data/b.npy",\n', '    "data/b.npy",\n    "data/a.npy",\n'
    )
    path.write_text(text.replace("row_tokens = 0", "row_tokens = 9"))

    code, out, _ = suite(capsys, "check", folder)

    assert code == 0, out
    order = np.arange(300, dtype=np.uint32)
    np.random.Generator(np.random.PCG64(5 + 1)).shuffle(order)  # OLMo-core counts passes from 1
    capsys.readouterr()
    assert run(app, ["order", "--suite", str(folder), "--step", "3", "--show", "1"]) == 0
    shown = capsys.readouterr().out
    file, local = ("data/b.npy", order[16]) if order[16] < 200 else ("data/a.npy", order[16] - 200)
    assert f"9 tokens of {file} from its token {9 * local} on" in shown
    assert f"tokens  {' '.join(map(str, content[order[16]]))}" in shown
    rows = open_rows(read_suite(folder))
    assert np.array_equal(rows[:160], content[order[:160]])
    assert len(rows) == 300


def test_a_trainer_s_own_checkpoint_is_named_and_how_to_convert_it(capsys, folder):
    (folder / "s" / "global_step30").mkdir()
    (folder / "s" / "global_step30" / "mp_rank_00_model_states.pt").write_bytes(b"")
    suite(capsys, "new", folder, "--batch-size", 8)

    code, out, _ = suite(capsys, "check", folder)

    assert code == 2
    assert "global_step30' is a checkpoint of the trainer, not a Hugging Face folder" in out


def test_a_row_is_decoded_where_there_is_a_tokenizer(capsys, folder):
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    words = {f"w{number}": number for number in range(50)}
    Tokenizer(WordLevel(words, unk_token="w0")).save(str(folder / "tokenizer.json"))
    (folder / "rows.npy").rename(folder / "given.npy")
    tokens = np.load(folder / "given.npy")
    MegatronStore.write(folder / "rows", list(tokens), dtype=np.uint16)
    (folder / "given.npy").unlink()

    code, out, _ = suite(capsys, "new", folder, "--batch-size", 8)

    assert code == 0
    assert "row 0, read by step 1: " + " ".join(f"w{token}" for token in tokens[0]) in out
