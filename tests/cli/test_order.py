"""The verb `order`: numbers without data, tokens, text, documents and exposures with it."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from data_order import Layout, MegatronStore, NeoxOrder, TrainingOrder, exposures
from data_order.neox.documents import NeoxRows
from pythia_profile.cli import app
from pythia_profile.cli.app import run
from pythia_profile.suites.folder import write_suite
from tests.stand_in.hub import Hub

SIZES = [30, 0, 41, 7, 12]
RUN = ["--batch-size", "4", "--steps", "5", "--row-tokens", "9"]
TRAINING = TrainingOrder(4, 5)


@pytest.fixture
def documents(tmp_path):
    texts = [np.arange(size) % 23 + number for number, size in enumerate(SIZES)]
    return MegatronStore.write(tmp_path / "pile" / "text_document", texts)


@pytest.fixture
def maps(documents):
    # 20 rows are trained; the run asks for half a percent more, rounded up
    return NeoxOrder.from_idx(
        documents.prefix, Layout(seed=7, samples=21, sequence_length=8), TRAINING
    )


@pytest.fixture
def rows(maps, documents, tmp_path):
    return MegatronStore.write(
        tmp_path / "rows" / "document", NeoxRows(maps, documents)[slice(None)]
    )


@pytest.fixture
def tokenizer(tmp_path):
    words = [f"w{i}" for i in range(25)] + ["\x1b[31mred", "\u202eevil\n"]
    model = models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="w0")
    Tokenizer(model).save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def said(capsys, *arguments):
    code = run(app, ["order", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def lines(capsys, *arguments):
    code, out, err = said(capsys, *arguments, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_a_step_of_pythia_needs_no_data(capsys):
    code, out, _ = said(capsys, "--step", 1000)

    assert code == 0
    assert out.splitlines()[0] == (
        "pythia-deduped: step 1,000 of 143,000 reads rows 1,022,976 to 1,023,999 (1,024 rows)"
    )
    assert out.splitlines()[1].split("  ") == [
        "row 1,022,976", "step 1,000", "batch 999, row 0 of 1,024", "first in step1000",
    ]  # fmt: skip
    assert "1,020 more" in out.splitlines()[-1]


@pytest.mark.parametrize(
    ("suite", "row", "step", "checkpoint"),
    [
        ("pythia", 0, 1, "step1"),
        ("pythia", 1023, 1, "step1"),
        ("pythia-deduped", 1024, 2, "step2"),
        ("pythia", 1_023_999, 1000, "step1000"),
        ("pythia", 1_024_000, 1001, "step2000"),
        ("pythia-seed3", 146_431_999, 143_000, "step143000"),
        ("pythia", 146_432_000, None, None),
        ("pythia-v0", 1_023_999, 500, "step1000"),
        ("pythia-v0", 1_024_000, 501, "step2000"),
    ],
)
def test_a_row_says_its_step_and_the_first_checkpoint_that_has_read_it(
    suite, row, step, checkpoint, capsys
):
    (line,) = lines(capsys, "--suite", suite, "--row", row)

    assert (line["row"], line["step"], line["checkpoint"]) == (row, step, checkpoint)
    assert ("read by no step" in said(capsys, "--suite", suite, "--row", row)[1]) == (step is None)


def test_json_of_a_step_holds_all_its_rows(capsys):
    assert [line["row"] for line in lines(capsys, "--step", 2)] == list(range(1024, 2048))


def test_tokens_come_from_the_store(rows, capsys):
    found = lines(capsys, "--step", 3, "--store", rows.prefix, *RUN)

    assert [line["tokens"] for line in found] == rows[8:12].tolist()
    out = said(capsys, "--row", 8, "--store", rows.prefix.parent, *RUN)[1]
    assert f"tokens  {' '.join(map(str, rows[8].tolist()))}" in out


def test_text_is_escaped_for_a_terminal(tokenizer, tmp_path, capsys):
    MegatronStore.write(tmp_path / "evil", [[3, 25, 26]])
    asked = ("--row", 0, "--store", tmp_path / "evil", "--decode", tokenizer, "--row-tokens", 3)

    out = said(capsys, *asked)[1]

    assert "\\x1b[31mred" in out
    assert "\\u202eevil\\n" in out
    assert not {"\x1b", "\u202e"} & set(out)
    assert len(out.splitlines()) == 2
    raw = said(capsys, *asked, "--json")[1]
    assert raw.isascii()
    assert json.loads(raw)[0]["text"] == "w3 \x1b[31mred \u202eevil\n"


def test_documents_and_exposures_are_those_of_the_order(documents, maps, capsys):
    asked = ("--idx", documents.prefix, "--seed", 7, "--documents", "--exposures", *RUN)

    for line in lines(capsys, "--step", 5, *asked):
        pieces = maps.pieces([line["row"]])
        earlier = exposures(maps, [line["row"]])
        assert [(p["document"], p["offset"], p["length"]) for p in line["documents"]] == list(
            zip(pieces.document, pieces.offset, pieces.length, strict=True)
        )
        assert (line["seen"], line["repeated"]) == (earlier.tokens[0], earlier.repeated[0])
        assert sum(read["tokens"] for read in line["reads"]) == earlier.reads["tokens"].sum()
    text = said(capsys, "--row", 19, *asked)[1]
    assert "tokens of document" in text
    assert "read before: " in text


def test_a_row_that_no_step_read_is_rebuilt_from_documents(documents, maps, capsys):
    asked = ("--idx", documents.prefix, "--seed", 7, "--corpus", documents.prefix.parent, *RUN)

    (line,) = lines(capsys, "--row", 20, *asked)

    assert line["tokens"] == NeoxRows(maps, documents)[20].tolist()
    assert line["step"] is None


def test_rows_come_from_the_hub_by_name(rows, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with Hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        data = rows.prefix.with_suffix(".bin").read_bytes()
        hub.add("dataset", "EleutherAI/pile-deduped-pythia-preshuffled", {"document.bin": data})

        (line,) = lines(capsys, "--row", 5, "--store", "hub", *RUN)

        assert line["tokens"] == rows[5].tolist()
        assert sum(request.sent for request in hub.requests("cdn")) == 18
        code, _, err = said(capsys, "--row", 5, "--store", "owner/none", *RUN)
    assert code == 2
    assert err.startswith("error: dataset 'owner/none' at 'main': the hub has no such dataset")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "give one of --step and --row"),
        (["--step", 1, "--row", 1], 2, "give one of --step and --row"),
        (["--row", 1, "--documents"], 2, "need --idx"),
        (["--row", 1, "--exposures"], 2, "need --idx"),
        (["--row", 1, "--corpus", "hub"], 2, "--corpus needs --idx"),
        (["--row", 1, "--decode", "x"], 2, "--decode needs tokens"),
        (["--row", 1, "--store", "a", "--corpus", "b", "--idx", "c"], 2, "one of --store and"),
        (["--suite", "pythia-seed1", "--row", 1, "--store", "hub"], 2, "are not published in"),
        (["--step", 0], 2, "no step 0; this run has steps 1 to 143000"),
        (["--step", 143_001], 2, "no step 143001"),
        (["--row", -1], 2, "row -1 is negative"),
        (["--row", 10**30], 2, "Invalid value"),
        (["--suite", "pythia-dedupe", "--row", 1], 2, "did you mean 'pythia-deduped'"),
        (["--row", 1, "--store", "/no/such/store"], 2, "no store there"),
        (["--row", 1, "--idx", "/no/such.idx", "--documents"], 2, "no such file"),
    ],
)
def test_impossible_questions_are_answered_with_one_line(arguments, code, message, capsys):
    got, out, err = said(capsys, *arguments)

    assert got == code
    assert out == ""
    assert message in " ".join(err.split())


def test_help_shows_examples_and_loads_nothing_heavy():
    heavy = ["torch", "numpy", "polars", "huggingface_hub", "httpx2", "tokenizers"]
    code = (
        "import sys; from pythia_profile.cli import app; from pythia_profile.cli.app import run; "
        f"run(app, ['order', '--help']); sys.exit(str([m for m in {heavy} if m in sys.modules]"
        " or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.stderr.strip() == ""
    assert "pythia-profile order --step 1000" in done.stdout


def test_a_suite_in_a_folder_brings_its_rows_and_its_tokenizer(tiny_suite, capsys):
    assert run(app, ["order", "--suite", str(tiny_suite.root), "--step", "2", "--json"]) == 0

    lines = json.loads(capsys.readouterr().out)
    store = MegatronStore(tiny_suite.root / "document")
    first = tiny_suite.batch_size
    assert [line["row"] for line in lines] == list(range(first, 2 * first))
    assert lines[0]["tokens"] == store[first].tolist()
    assert (
        lines[0]["checkpoint"]
        == f"step{tiny_suite.usual_checkpoints(next(iter(tiny_suite.sizes)))[1]}"
    )
    assert lines[0]["text"]


@pytest.fixture
def own(tiny_suite, tmp_path):
    """A suite of one's own, of 20 rows that were packed from documents with seed 7."""
    changed = replace(
        tiny_suite, batch_size=4, steps=5, row_tokens=9, vocabulary=50, store="rows/document"
    )
    changed = replace(changed, warmup_steps=1, decay_steps=0, tokenizer=None)
    write_suite(changed, tmp_path)
    return changed


def test_the_data_seed_of_an_own_suite_is_its_own_or_asked_for(
    own, documents, maps, rows, tmp_path, capsys
):
    asked = ("--suite", tmp_path, "--row", 3, "--idx", documents.prefix)
    corpus = ("--corpus", documents.prefix.parent)

    code, _, err = said(capsys, *asked, *corpus)
    assert code == 2
    assert "--idx needs the data seed of the run, which this suite does not name" in err
    write_suite(replace(own, data_seed=7), tmp_path)
    (rebuilt,) = lines(capsys, *asked, *corpus)
    (stored,) = lines(capsys, "--suite", tmp_path, "--row", 3)
    assert rebuilt["tokens"] == stored["tokens"] == rows[3].tolist()
    assert "with data seed 7" in said(capsys, *asked, *corpus)[1]
    assert "with data seed 8" in said(capsys, *asked, *corpus, "--seed", 8)[1]


def test_a_split_of_the_documents_is_given_as_the_run_had_it(documents, capsys):
    asked = ("--row", 3, "--idx", documents.prefix, "--seed", 7, "--documents", *RUN)

    (line,) = lines(capsys, *asked, "--split", "60,20,20")

    order = NeoxOrder.from_idx(
        documents.prefix, Layout(seed=7, samples=20, sequence_length=8, split="60,20,20"), TRAINING
    )
    assert [p["document"] for p in line["documents"]] == order.pieces([3]).document.tolist()
    assert {p["document"] for p in line["documents"]} <= {0, 1, 2}
    code, _, err = said(capsys, *asked, "--split", "x")
    assert (code, "expected up to three weights" in err) == (1, True)


def test_an_id_beyond_the_vocabulary_of_the_suite_is_refused(own, rows, tmp_path, capsys):
    write_suite(replace(own, vocabulary=int(rows[0].max())), tmp_path)

    code, _, err = said(capsys, "--suite", tmp_path, "--row", 0)

    assert code == 1
    assert "row 0, position" in err
    assert "token id is" in err


def test_rows_of_the_hub_are_verified_by_a_second_fetch(rows, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with Hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        data = rows.prefix.with_suffix(".bin").read_bytes()
        hub.add("dataset", "owner/rows", {"document.bin": data})
        asked = ("--row", 5, "--store", "owner/rows", *RUN)

        assert "verified: 1 rows are the same" in said(capsys, *asked, "--verify")[1]
        hub.misbehave("flip", at="cdn", times=1)
        code, _, err = said(capsys, *asked, "--verify")

    assert code == 1
    assert "1 of 1 rows differ in a second fetch, the first is 5; dropped from the cache" in err


def test_shards_on_disk_are_verified_by_the_hubs_hashes(rows, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    name, data = "document-00000-of-00000.bin", rows.prefix.with_suffix(".bin").read_bytes()
    shard = tmp_path / "shards" / name
    shard.parent.mkdir()
    shard.write_bytes(data)
    asked = ("--row", 5, "--store", shard.parent, "--verify", *RUN)
    with Hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        hub.add("dataset", "EleutherAI/pile-deduped-pythia-preshuffled", {name: data})

        assert f"verified: {name} as published" in said(capsys, *asked)[1]
        shard.write_bytes(bytes([data[0] ^ 1]) + data[1:])
        code, _, err = said(capsys, *asked)

    assert code == 1
    assert f"{name}: is not the published file; its sha256 is another" in err
    assert said(capsys, "--row", 5, "--verify", *RUN)[0] == 2


def test_rows_of_a_store_are_compared_with_those_rebuilt_from_the_documents(
    documents, rows, capsys
):
    rebuilt = ("--idx", documents.prefix, "--seed", 7, "--corpus", documents.prefix.parent)
    asked = ("--step", 2, *rebuilt, "--store", rows.prefix.parent, "--verify", "--show", 0, *RUN)

    assert "verified: 4 rows are those rebuilt from the documents" in said(capsys, *asked)[1]

    path = rows.prefix.with_suffix(".bin")
    data = bytearray(path.read_bytes())
    data[2 * (5 * 9 + 8)] ^= 1  # rows of 9 tokens of 2 bytes: the last token of row 5
    path.write_bytes(data)
    code, _, err = said(capsys, *asked)
    assert code == 1
    assert "1 of 4 rows are not those rebuilt from the documents, the first is 5;" in err


def test_documents_on_disk_are_verified_by_the_published_hashes(documents, capsys):
    rebuilt = ("--idx", documents.prefix, "--seed", 7, "--corpus", documents.prefix.parent)

    code, _, err = said(capsys, "--row", 2, *rebuilt, "--verify", *RUN)

    assert code == 1
    assert "text_document.bin: no published file has this name; no hash to compare with" in err
