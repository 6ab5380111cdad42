"""Questions and answers for any tokenizer, and what is refused in one line."""

import json

import numpy as np
import pytest

from pythia_profile.errors import StudyError
from pythia_profile.labs.law.law_base import opened_base
from pythia_profile.labs.law.law_data import answers_of, documents, phone_numbers, read_answers
from pythia_profile.labs.law.law_settings import LawSettings


@pytest.fixture(scope="module")
def tiny(tiny_suite):
    """Settings of documents of 5 tokens for the tiny mini suite, with changes."""

    def make(**changes):
        values = {"suite": str(tiny_suite.root), "size": "xs", "data": "documents"}
        return LawSettings(**{**values, "document_tokens": 5, "answer_tokens": (20,)} | changes)

    return make


@pytest.fixture(scope="module")
def base(tiny):
    with opened_base(tiny()) as found:
        yield found


def test_a_phone_book_is_read_back_by_the_tokenizer_that_wrote_it(base):
    tokenizer = base.tokenizer("")
    pairs = phone_numbers(12, tokenizer, seed=3)

    for question, answer in pairs:
        name, number = tokenizer.decode(list(question)), tokenizer.decode(list(answer))
        assert len(answer) == len(number) == 10
        assert number.isdecimal()
        assert name.endswith(":")
        assert name[:-1].isalpha()
        assert len(name) == 9
    assert len({tuple(question) for question, _ in pairs}) == 12
    assert pairs == phone_numbers(12, tokenizer, seed=3)
    assert pairs != phone_numbers(12, tokenizer, seed=4)


def test_documents_hold_the_share_of_random_tokens_that_was_asked_for():
    text = np.full(40_000, 7)
    found = np.array([a for _, a in documents(400, 100, 1000, random_share=0.3, text=text, seed=0)])

    # 40,000 draws: a share of .3 has standard error .0023; a drawn token is 7 in a thousandth
    assert (found != 7).mean() == pytest.approx(0.3, abs=0.01)
    whole = np.array([a for _, a in documents(400, 100, 1000, seed=0)])
    assert (whole == 7).mean() < 0.01


def test_shorter_answers_are_the_first_of_longer_ones(tiny, base):
    short, long = answers_of(tiny(answer_tokens=(10, 30)), base, 0).values()

    assert (len(short), short.tokens, len(long), long.tokens) == (2, 10, 6, 30)
    np.testing.assert_array_equal(long.rows[:2], short.rows)
    assert short.rows.shape == (2, 9)
    assert not short.scored[:, :3].any()
    assert short.scored[:, 3:].all()


def test_natural_documents_are_rows_that_the_run_never_read(tiny, base, tiny_suite):
    from data_order.store.megatron import MegatronStore

    (found,) = answers_of(tiny(random_share=0.0), base, 0).values()
    rows = MegatronStore(tiny_suite.root / tiny_suite.store)[tiny_suite.batch_size * 64 :]

    np.testing.assert_array_equal(found.rows[:, 4:].reshape(-1), rows.reshape(-1)[:20])


def test_own_questions_and_answers_of_unequal_length(tmp_path, tiny, base):
    path = tmp_path / "qa.jsonl"
    pairs = [("ab", "de"), ("a", "defg"), ("abc", "d")]
    lines = [json.dumps({"question": q, "answer": a}) for q, a in pairs]
    path.write_text("\n".join(lines) + "\n")
    settings = tiny(data="file", file=str(path), answer_tokens=(1,))
    tokenizer = base.tokenizer("")
    total = sum(len(tokenizer.encode(answer).ids) for _, answer in pairs)
    (found,) = answers_of(settings.replace(answer_tokens=(total,)), base, 0).values()

    assert found.tokens == total
    for row, flags, (question, answer) in zip(found.rows, found.scored, pairs, strict=True):
        assert tokenizer.decode(row[1:][flags].tolist()) == answer
        first = flags.argmax() + 1
        assert tokenizer.decode(row[:first].tolist()) == question


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"question": "a", "answer": ""}', "line 1: answer is empty"),
        ('{"question": "", "answer": "a"}', "line 1: question is empty"),
        ('{"question": "a"}', "line 1: expected an object with `question` and `answer`"),
        ("[1]", "line 1: expected an object"),
        ("{", "line 1: expected an object"),
        ('{"question": "a", "answer": 3}', "line 1: answer is 3, expected a text"),
        ("", "holds no question"),
    ],
)
def test_a_line_that_is_no_question_and_answer_is_named(tmp_path, base, line, words):
    path = tmp_path / "qa.jsonl"
    path.write_text(line + "\n")

    with pytest.raises(StudyError, match=words) as raised:
        read_answers(path, base.tokenizer(""))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"document_tokens": 14, "answer_tokens": (14,)},
            "answer 1 is longer than the context: "
            "14 tokens after a question of 4, mini xs step 64 reads 16",
        ),
        ({"random_share": 0.5, "answer_tokens": (9000,)}, "text: has 1,632 tokens"),
        ({"data": "file", "file": "none.jsonl"}, "'none.jsonl' cannot be read"),
    ],
)
def test_answers_that_cannot_be_made_are_one_line(tiny, base, changes, words):
    with pytest.raises(StudyError, match=words) as raised:
        answers_of(tiny(**changes), base, 0)
    assert "\n" not in str(raised.value)


def test_text_without_a_tokenizer_is_refused_and_a_phone_book_is_token_ids(tiny, tiny_suite):
    from dataclasses import replace

    with opened_base(tiny()) as found:
        bare = replace(found, suite=replace(tiny_suite, tokenizer=None))
    (book,) = answers_of(tiny(data="phone_book"), replace(bare, context=32), 0).values()

    assert book.rows.max() < 37
    with pytest.raises(StudyError, match="brings no tokenizer"):
        answers_of(tiny(data="file", file="qa.jsonl"), bare, 0)
