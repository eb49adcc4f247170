import json

import pytest

datasets = pytest.importorskip("datasets")

from ragtune.errors import QuestionError, StorageError  # noqa: E402
from ragtune.hub import load_tokenizer  # noqa: E402
from ragtune.questions.question import Question  # noqa: E402
from ragtune.questions.tokenization import FEATURES, tokenize_pairs  # noqa: E402
from ragtune.questions.tokenizer import tokenizer_fingerprint  # noqa: E402

KNOWN = [
    Question("1", "who got the first nobel prize in physics", ("Wilhelm Conrad Röntgen", "Röntgen"), ("w1", "w2")),
    Question("2", "when is the next deadpool movie being released", ("May 18, 2018",)),
]
GENERATORS = ["bart_tokenizer", "t5_tokenizer"]


@pytest.fixture(scope="module")
def bert_tokenizer(minilm):
    return load_tokenizer(minilm)


@pytest.fixture
def run(tmp_path, bert_tokenizer):
    """Tokenise, and give counts, dataset, tokenization.json and rejected rows."""

    def run(train, generator, validation=(), question_tokenizer=None, **options):
        for name, questions in (("train", train), ("validation", validation)):
            (tmp_path / f"{name}.jsonl").write_text("".join(question.as_line() for question in questions))
        folder = tmp_path / "pairs"
        counts = tokenize_pairs(
            tmp_path / "train.jsonl",
            tmp_path / "validation.jsonl",
            question_tokenizer or bert_tokenizer,
            generator,
            folder,
            **options,
        )
        rejected = [json.loads(line) for line in (folder / "rejected.jsonl").read_text().splitlines()]
        return counts, datasets.load_from_disk(folder), json.loads((folder / "tokenization.json").read_text()), rejected

    return run


@pytest.mark.parametrize("name", GENERATORS)
def test_questions_and_first_answers_become_tokens_that_decode_to_them(run, request, bert_tokenizer, name):
    generator = request.getfixturevalue(name)
    counts, pairs, *_ = run(KNOWN, generator, validation=KNOWN[:1])
    assert (counts["train"], counts["validation"]) == (len(pairs["train"]), len(pairs["validation"])) == (2, 1)
    for row, question in zip(pairs["train"], KNOWN, strict=True):
        assert bert_tokenizer.decode(row["question_input_ids"], skip_special_tokens=True) == question.question
        assert generator.decode(row["labels"], skip_special_tokens=True) == question.answers[0]
        assert (row["id"], row["question"]) == (question.id, question.question)
        assert (tuple(row["answers"]), tuple(row["gold_ids"])) == (question.answers, question.gold_ids)


@pytest.mark.parametrize("name", GENERATORS)
def test_labels_end_in_the_only_eos_and_nothing_is_padded(run, request, name):
    generator = request.getfixturevalue(name)
    for row in run(KNOWN, generator)[1]["train"]:
        assert row["labels"][-1] == generator.eos_token_id
        assert row["labels"].count(generator.eos_token_id) == 1
        assert set(row["question_attention_mask"]) == {1}
        assert len(row["question_attention_mask"]) == len(row["question_input_ids"])
        assert generator.pad_token_id not in row["labels"]


def test_answers_of_a_decoder_only_generator_have_no_beginning_of_their_own(run, bart_tokenizer):
    labels = run(KNOWN, bart_tokenizer, decoder_only=True)[1]["train"]["labels"]
    assert list(labels) == [bart_tokenizer(question.answers[0]).input_ids[1:] for question in KNOWN]


def test_labels_are_what_the_generator_itself_makes_of_an_answer(run, bart_tokenizer):
    labels = run(KNOWN, bart_tokenizer)[1]["train"]["labels"]
    assert list(labels) == [bart_tokenizer(text_target=question.answers[0]).input_ids for question in KNOWN]


def test_a_tokenizer_that_adds_no_eos_gets_one(run, t5_tokenizer, tmp_path):
    t5_tokenizer.save_pretrained(tmp_path / "t5")
    bare = load_tokenizer(tmp_path / "t5")
    from tokenizers.processors import TemplateProcessing

    bare.backend_tokenizer.post_processor = TemplateProcessing("$A", "$A $B", [])
    assert bare("fox").input_ids[-1] != bare.eos_token_id
    labels = run(KNOWN, bare)[1]["train"]["labels"]
    assert list(labels) == list(run(KNOWN, t5_tokenizer)[1]["train"]["labels"])


def test_the_separator_ends_answers_where_there_is_no_eos(run, bert_tokenizer):
    for labels in run(KNOWN, bert_tokenizer)[1]["train"]["labels"]:
        assert labels[-1] == bert_tokenizer.sep_token_id


@pytest.mark.parametrize("name", GENERATORS)
def test_long_texts_are_cut_and_counted_apart(run, request, name):
    generator = request.getfixturevalue(name)
    long = Question("3", "who " * 40, ("the quick brown fox jumps over the lazy dog",))
    counts, pairs, *_ = run([*KNOWN, long], generator, max_question_tokens=16, max_answer_tokens=8)
    assert counts["questions_truncated"] == 1
    assert counts["answers_truncated"] >= 1
    assert counts["train"] == 3
    row = pairs["train"][2]
    assert len(row["question_input_ids"]) == 16
    assert len(row["labels"]) == 8
    assert row["labels"][-1] == generator.eos_token_id


def test_an_answer_cut_inside_a_letter_is_no_loss(run, bart_tokenizer):
    answer = "ドラゴンボール"  # three byte tokens a letter
    counts, *_ = run([Question("1", "who", (answer,))], bart_tokenizer, max_answer_tokens=9)
    assert (counts["train"], counts["answers_truncated"]) == (1, 1)


@pytest.mark.parametrize("question", ["WHO got the first", "  who   got ", "Röntgen?", "who’s", "½ of it"])
def test_case_accents_and_white_space_may_change(run, bart_tokenizer, question):
    assert run([Question("1", question, ("fox",))], bart_tokenizer)[0]["train"] == 1


@pytest.mark.parametrize(
    ("question", "answer", "reason", "detail"),
    [
        ("who is 🦊🦊", "fox", "question_lost", 'comes back as "who is"'),
        ("who", "ドラゴン", "answer_empty", 'no token of "ドラゴン" is known'),
        ("who", "fox ドラゴン", "answer_lost", '"fox ドラゴン" comes back as "fox '),
        ("who", "fox </s> dog", "answer_lost", "comes back as"),
    ],
)
def test_what_the_tokenizer_loses_is_rejected_with_a_reason(run, t5_tokenizer, question, answer, reason, detail):
    bad = Question("9", question, (answer,), source="there.jsonl:7")
    counts, pairs, _, rejected = run([*KNOWN, bad], t5_tokenizer, max_rejected_fraction=0.5)
    assert counts[f"rejected_{reason}"] == 1
    assert list(pairs["train"]["id"]) == ["1", "2"]
    assert (rejected[0]["reason"], rejected[0]["file"], rejected[0]["line"]) == (reason, "there.jsonl", 7)
    assert detail in rejected[0]["detail"]


def test_a_prompt_stands_before_every_question(run, bart_tokenizer, bert_tokenizer):
    _, pairs, description, _ = run(KNOWN, bart_tokenizer, question_prompt="query: ")
    decoded = bert_tokenizer.decode(pairs["train"][0]["question_input_ids"], skip_special_tokens=True)
    assert decoded == f"query : {KNOWN[0].question}"
    assert pairs["train"][0]["question"] == KNOWN[0].question
    assert description["question_prompt"] == "query: "


def test_the_folder_says_how_it_was_made(run, bart_tokenizer, bert_tokenizer):
    counts, pairs, description, _ = run(KNOWN, bart_tokenizer, max_question_tokens=24)
    assert description == {
        "question_tokenizer": tokenizer_fingerprint(bert_tokenizer),
        "generator_tokenizer": tokenizer_fingerprint(bart_tokenizer),
        "max_question_tokens": 24,
        "max_answer_tokens": 32,
        "question_prompt": "",
        "decoder_only": False,
        "counts": counts,
    }
    assert pairs["train"].features == FEATURES


def test_validation_may_be_empty(run, bart_tokenizer):
    _, pairs, *_ = run(KNOWN, bart_tokenizer)
    assert len(pairs["validation"]) == 0
    assert pairs["validation"].features == FEATURES


def test_too_many_losses_are_an_error_that_names_the_tokenizer_and_an_example(run, t5_tokenizer, tmp_path):
    lost = [Question(str(number), "who", ("ドラゴン",), source="there.jsonl:1") for number in range(5)]
    with pytest.raises(QuestionError, match=r"T5Tokenizer.*5 of 7 rows.*there\.jsonl:1: no token of \"ドラゴン\""):
        run([*KNOWN, *lost], t5_tokenizer)
    assert not (tmp_path / "pairs").exists()


@pytest.mark.parametrize("options", [{"max_question_tokens": 3}, {"max_answer_tokens": 0}])
def test_lengths_without_room_are_an_error(run, bart_tokenizer, options):
    with pytest.raises(QuestionError, match="at least 4"):
        run(KNOWN, bart_tokenizer, **options)


def test_no_training_question_is_an_error(run, bart_tokenizer):
    with pytest.raises(QuestionError, match=r"train\.jsonl: no question to train on"):
        run([], bart_tokenizer, validation=KNOWN)


def test_a_generator_that_cannot_end_is_an_error(run, t5_tokenizer, tmp_path):
    t5_tokenizer.save_pretrained(tmp_path / "t5")
    endless = load_tokenizer(tmp_path / "t5")
    endless.eos_token = None
    with pytest.raises(QuestionError, match="neither eos_token nor sep_token"):
        run(KNOWN, endless)


def test_a_missing_file_is_an_error(tmp_path, bart_tokenizer):
    with pytest.raises(StorageError, match="absent: no such file"):
        tokenize_pairs(tmp_path / "absent", tmp_path / "absent", bart_tokenizer, bart_tokenizer, tmp_path / "pairs")


def test_real_questions_lose_nothing(run, bart_tokenizer, shared_data):
    from ragtune.questions.question import read_kept_questions

    questions = list(read_kept_questions(shared_data / "nq/dev.jsonl"))
    counts, *_ = run(questions, bart_tokenizer, max_answer_tokens=64)
    assert counts["train"] >= 0.99 * len(questions)
