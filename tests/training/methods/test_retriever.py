"""`retriever`: a run of it in a small world, its parts, its data, its mining, and what it refuses."""

import json

import datasets
import numpy as np
import pytest
import torch
from exact_search import ExactSearch
from sentence_transformers import SentenceTransformer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_models import save_tiny_parts
from world import CITIES, COUNTRIES, PASSAGES

from ragtune.errors import TrainingError
from ragtune.knowledge.passages import Passage
from ragtune.models.inputs import PromptBuilder
from ragtune.models.rag import RagConfig, RagModel
from ragtune.training.arguments import RagTrainingArguments
from ragtune.training.methods.hard_negatives import Relevance
from ragtune.training.methods.live_passages import PassageTokens
from ragtune.training.methods.retriever import Retriever, RetrieverOptions
from ragtune.training.trainer import RagTrainer

SETTINGS = {"method": "retriever", "n_docs": 3, "temperature": 0.2, "learning_rate": 5e-4, "logging_steps": 1}
SETTINGS |= {"per_device_train_batch_size": 16, "eval_strategy": "no", "report_to": "none"}
OPTIONS = {"negatives": 2, "margin": 0.0}


def losses(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def weights(module):
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()]).clone()


def scalars(folder):
    events = EventAccumulator(str(folder))
    events.Reload()
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


class Refreshed(ExactSearch):
    """What a trainer has of a knowledge base that is refreshed; here at once, with the passage encoder as it is."""

    def __init__(self, trainer):
        super().__init__(trainer.rag.passage_encoder.encode_passages(PASSAGES))
        self.trainer, self.step = trainer, 0

    def refresh(self, step):
        self.embeddings, self.step = self.trainer.rag.passage_encoder.encode_passages(PASSAGES), step

    def staleness(self, step):
        return step - self.step

    def save(self, folder):
        (folder / "refreshed.json").write_text(json.dumps({"step": self.step}))
        np.save(folder / "refreshed.npy", self.embeddings)

    def load(self, folder):
        self.step = json.loads((folder / "refreshed.json").read_text())["step"]
        self.embeddings = np.load(folder / "refreshed.npy")


@pytest.fixture
def make(make_trainer):
    def with_options(refresh_at=(), **parameters):
        options = OPTIONS | parameters.pop("method_options", {})
        trainer = make_trainer(**SETTINGS | {"method_options": options} | parameters)
        trainer.refreshed = trainer.knowledge = Refreshed(trainer)
        miner = next(each for each in trainer.callback_handler.callbacks if type(each).__name__ == "Mining")
        mine = miner.on_step_end

        def refresh_first(args, state, control, **kwargs):
            if state.global_step in refresh_at:
                trainer.refreshed.refresh(state.global_step)
            mine(args, state, control, **kwargs)

        miner.on_step_end = refresh_first
        return trainer

    return with_options


@pytest.mark.parametrize("loss", ["infonce", "contrastive"])
def test_both_encoders_learn_and_the_generator_does_not(make, loss):
    trainer = make(max_steps=10, method_options={"loss": loss, "encoders": "two"})
    parts = (trainer.rag.question_encoder, trainer.rag.passage_encoder, trainer.rag.generator)
    before = [weights(part) for part in parts]
    trainer.train()
    assert [not torch.equal(old, weights(part)) for old, part in zip(before, parts, strict=True)] == [True, True, False]
    assert losses(trainer)[-1] < losses(trainer)[0]


def test_one_encoder_stays_one_and_two_do_not(make):
    one, two = (make(max_steps=2, method_options={"encoders": kind}, folder=kind) for kind in ("auto", "two"))
    for trainer in (one, two):
        trainer.train()
        sides = [weights(part) for part in (trainer.rag.question_encoder, trainer.rag.passage_encoder)]
        assert torch.equal(*sides) is (trainer is one)


def test_hard_negatives_are_mined_anew_from_each_refreshed_base(make, tmp_path):
    trainer = make(refresh_at=(4,), max_steps=6, report_to="tensorboard", tensorboard_folder=str(tmp_path / "events"))
    start = trainer.method.pairs.negatives.copy()
    trainer.train()
    pairs, relevance = trainer.method.pairs, trainer.method.relevance
    assert pairs.base_step == 4
    assert not np.array_equal(start[:48], pairs.negatives[:48])
    np.testing.assert_equal(start[48:], pairs.negatives[48:])  # validation is always against the same
    assert not any(relevance.why_right(n, row) for n in range(48) for row in pairs.negatives[n] if row >= 0)
    written = scalars(tmp_path / "events")
    assert [step for step, _ in written["Hard_Negatives/New_Pairs_Added"]] == [0, 4]
    (_, first), (_, then) = written["Dataset/Total_Size"]
    assert first == 48 + (start[:48] >= 0).sum() and then == pairs.size > first
    assert all(0 < value < 1 for _, value in written["Hard_Negatives/Kept_Fraction"])


def test_validation_says_how_similar_positive_pairs_are(make, tmp_path):
    events = {"report_to": "tensorboard", "tensorboard_folder": str(tmp_path / "events")}
    trainer = make(max_steps=4, eval_strategy="steps", eval_steps=2, per_device_eval_batch_size=5, **events)  # 5, 5, 2
    questions = trainer.rag.question_encoder.encode([f"what is the capital of {COUNTRIES[n]} ?" for n in range(48, 60)])
    passages = trainer.rag.passage_encoder.encode([f"{passage.title}. {passage.text}" for passage in PASSAGES[48:]])
    similar = (questions * passages).sum(axis=1).mean()
    trainer.train()
    written = scalars(tmp_path / "events")["Evaluation/Positive_Pair_Similarity"]
    assert [step for step, _ in written] == [0, 2, 4]
    assert written[0][1] == pytest.approx(similar, rel=1e-5)
    evaluations = [entry for entry in trainer.state.log_history if "eval_loss" in entry]
    assert trainer.state.best_global_step == min(evaluations, key=lambda entry: entry["eval_loss"])["step"]


def test_gradient_caching_trains_the_same_weights(make):
    whole, cached = (make(max_steps=3, method_options={"chunk_size": size}, folder=f"of{size}") for size in (0, 5))
    for trainer in (whole, cached):
        trainer.train()
    assert losses(cached) == pytest.approx(losses(whole), rel=1e-5)
    expected = dict(whole.rag.question_encoder.named_parameters())
    for name, weight in cached.rag.question_encoder.named_parameters():
        if not name.endswith("key.bias"):  # which has no gradient but rounding
            torch.testing.assert_close(weight, expected[name], rtol=1e-3, atol=1e-5)


def test_a_resumed_run_goes_on_with_the_negatives_of_its_checkpoint(make):
    settings = {"refresh_at": (2,), "max_steps": 6, "save_strategy": "steps", "save_steps": 3}
    whole, again = make(folder="whole", **settings), make(folder="again", **settings)
    whole.train()
    again.train(resume_from_checkpoint=str(whole.folder / "checkpoint-3"))
    assert losses(again)[-3:] == pytest.approx(losses(whole)[-3:], rel=1e-6)
    np.testing.assert_equal(again.method.pairs.negatives, whole.method.pairs.negatives)
    assert again.method.pairs.base_step == 2


def test_the_trained_encoder_loads_with_sentence_transformers(make, tmp_path):
    trainer = make(max_steps=2)
    trainer.train()
    trainer.rag.passage_encoder.save_pretrained(tmp_path / "encoder")
    texts = [f"{passage.title}. {passage.text}" for passage in PASSAGES[:5]]
    found = SentenceTransformer(str(tmp_path / "encoder"), device="cpu").encode(texts)
    np.testing.assert_allclose(found, trainer.rag.passage_encoder.encode(texts), atol=1e-6)


def test_of_questions_without_gold_those_are_trained_on_whose_answer_was_found(make_trainer, monkeypatch):
    def without_gold(folder):
        splits = datasets.load_from_disk(folder)
        rows = splits["train"].to_dict() | {"gold_ids": [[] for _ in range(48)]}
        rows["answers"] = [[CITIES[n]] if n < 5 else ["nowhere"] for n in range(48)]
        return {**splits, "train": datasets.Dataset.from_dict(rows, splits["train"].features)}

    monkeypatch.setitem(make_trainer.__globals__, "load_from_disk", without_gold)
    options = OPTIONS | {"candidates": 60}
    trainer = make_trainer(**SETTINGS, method_options=options, max_steps=2)
    assert [row["question"] for row in trainer.train_dataset] == [
        f"what is the capital of {COUNTRIES[n]} ?" for n in range(5)
    ]
    assert trainer.method.pairs.positives[:5] == [[n] for n in range(5)]
    trainer.train()
    trainer.method.relevance.answers[20] = [CITIES[20]]
    trainer.method.mine_again(trainer, 2)
    assert trainer.method.pairs.positives[20] == [], "it is not trained on, and no pair of it is counted"


def test_titles_ask_for_texts_without_them(make):
    trainer = make(max_steps=3, method_options={"pairs": "titles"})
    assert [row["question"] for row in trainer.train_dataset] == COUNTRIES
    batch = trainer.data_collator([trainer.train_dataset[n] for n in (7, 3)])
    inputs = trainer.method.inputs(batch, None, trainer.tokens)
    texts = trainer.rag.passage_encoder.tokenizer.batch_decode(inputs["passage_input_ids"], skip_special_tokens=True)
    assert [texts[place] for place in inputs["passage_places"][:, 0].tolist()] == [
        PASSAGES[row].text.replace(" .", ".") for row in (7, 3)
    ]
    trainer.train()
    assert len(losses(trainer)) == 3


def test_a_validation_question_that_is_a_title_too_is_judged_by_its_own_passage(make_trainer, monkeypatch):
    def keywords(folder):
        splits = datasets.load_from_disk(folder)
        rows = splits["validation"].to_dict() | {"question": COUNTRIES[:12]}  # the gold passages stay p48 to p59
        return {**splits, "validation": datasets.Dataset.from_dict(rows, splits["validation"].features)}

    monkeypatch.setitem(make_trainer.__globals__, "load_from_disk", keywords)
    trainer = make_trainer(**SETTINGS, method_options=OPTIONS | {"pairs": "titles"}, max_steps=1)
    batch = trainer.data_collator([trainer.eval_dataset[n] for n in range(12)])
    inputs = trainer.method.inputs(batch, None, trainer.tokens)
    assert inputs["passage_rows"][:, 0].tolist() == list(range(48, 60))
    titled = trainer.rag.passage_encoder.tokenize_passages([PASSAGES[48]])[0]
    place = inputs["passage_places"][0, 0]
    assert inputs["passage_input_ids"][place, : len(titled)].tolist() == titled


def test_where_no_candidate_is_left_it_says_so_and_trains_on(make, capsys):
    trainer = make(max_steps=2, method_options={"margin": 1.0})
    assert (trainer.method.pairs.negatives == -1).all()
    said = capsys.readouterr().err
    assert "no hard negative is left (dropped: gold" in said and "lower margin, raise candidates, or set neg" in said
    trainer.train()
    assert len(losses(trainer)) == 2


def test_questions_that_nothing_answers_are_refused(make_trainer, still_world):
    method = Retriever(RetrieverOptions(**OPTIONS))
    passages = [Passage("x", "", "nothing here", ("x",))]
    args = RagTrainingArguments(output_dir=still_world.pairs, **SETTINGS, max_steps=1)
    config = RagConfig(n_docs=3, temperature=0.2)
    model = RagModel.from_parts(*still_world.parts.values(), config)
    search = ExactSearch(model.passage_encoder.encode_passages(passages))
    rows = datasets.load_from_disk(still_world.pairs)["train"]
    with pytest.raises(TrainingError, match=r"none of 48 questions has a gold passage .* set pairs=titles"):
        RagTrainer(
            model, args, method, PromptBuilder(model.generator.prompt_tokens, passages, config), rows, search=search
        )


def test_two_kinds_of_encoder_cannot_be_one(tmp_path):
    parts = save_tiny_parts(tmp_path, ["a few words"])
    model = RagModel.from_parts(*parts)
    with pytest.raises(TrainingError, match=r"encoders=one: .* or set encoders=two"):
        Retriever(RetrieverOptions(encoders="one")).adapt(model)
    Retriever().adapt(model)
    assert model.question_encoder.backbone is not model.passage_encoder.backbone


def test_accumulated_batches_are_refused():
    with pytest.raises(TrainingError, match=r"gradient_accumulation_steps=2: .* set chunk_size"):
        RagTrainingArguments(output_dir="x", method="retriever", gradient_accumulation_steps=2, report_to="none")


def test_more_negatives_than_are_kept_are_refused():
    with pytest.raises(TrainingError, match="negatives=11: is more than hardest=10"):
        RetrieverOptions(negatives=11)


def test_the_pool_of_several_processes_is_judged_as_a_whole(monkeypatch):
    """The second process's questions, whose own positives stand behind the first one's."""
    method = Retriever(RetrieverOptions(negatives=1))
    method.relevance = Relevance(PASSAGES, [[f"p{n}"] for n in range(4)], [[CITIES[n]] for n in range(4)])
    everyone = torch.tensor([[0, 8], [1, 2], [2, 9], [3, 0]])
    monkeypatch.setattr("ragtune.training.methods.contrast.gathered_rows", lambda rows: everyone)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 1)
    excluded = method._excluded_of_all(torch.tensor([2, 3]), everyone[2:])
    pool = np.array([0, 1, 2, 3, 8, 2, 9, 0])
    assert excluded.tolist() == [[(row == 2 and at != 2) or at == 7 for at, row in enumerate(pool)],
                                 [at in (5, 7) for at in range(8)]]  # fmt: skip


def test_mining_searches_no_base_where_none_is_needed(make_trainer):
    trainer = make_trainer(**SETTINGS, method_options={"negatives": 0}, max_steps=1)
    assert trainer.knowledge.calls == 0
    assert trainer.method.refresh_every(100) == 0
    assert Retriever(RetrieverOptions(mine_every=7)).refresh_every(100) == 7
    assert trainer.method.mined == {"Dataset/Total_Size": 48.0}


@pytest.mark.parametrize("metric", ["loss", "recall@1"])
def test_validation_questions_that_nothing_answers_choose_no_step_by_their_loss(make_trainer, monkeypatch, metric):
    def nowhere(folder):
        splits = datasets.load_from_disk(folder)
        rows = splits["validation"].to_dict() | {"gold_ids": [["gone"]] * 12, "answers": [["nowhere"]] * 12}
        return {**splits, "validation": datasets.Dataset.from_dict(rows, splits["validation"].features)}

    monkeypatch.setitem(make_trainer.__globals__, "load_from_disk", nowhere)
    settings = SETTINGS | {"method_options": OPTIONS, "eval_strategy": "steps", "metric_for_best_model": metric}
    if metric == "loss":
        with pytest.raises(TrainingError, match=r"none of 12 validation questions has a gold passage .* give others"):
            make_trainer(**settings, max_steps=1)
    else:
        make_trainer(**settings, max_steps=1)


@pytest.mark.parametrize("loss", ["infonce", "contrastive"])
def test_an_evaluation_leaves_out_questions_without_a_positive(make, loss):
    method = (trainer := make(max_steps=1, method_options={"loss": loss})).method
    method.pairs.positives[49] = []
    trainer.model.eval()

    def loss_of(*rows):
        batch = trainer.data_collator([trainer.eval_dataset[row] for row in rows])
        with torch.no_grad():
            return trainer.model(**method.inputs(batch, None, trainer.tokens)).loss.item()

    assert loss_of(0, 1, 2, 3) == pytest.approx(loss_of(0, 2, 3), rel=1e-5) and loss_of(0, 2, 3) > 0
    assert loss_of(1) == 0


def test_each_step_draws_anew_of_the_hard_negatives(make):
    method = (trainer := make(max_steps=1)).method
    batch, drawn = trainer.data_collator([trainer.train_dataset[n] for n in range(8)]), []
    for method.step in (0, 1, 0):
        drawn.append(method.inputs(batch, None, trainer.tokens)["passage_rows"].tolist())
    assert drawn[0] == drawn[2] != drawn[1]


def test_a_batch_of_questions_without_positives_reads_a_passage_that_there_is(make):
    method = (trainer := make(max_steps=1)).method
    method.pairs.positives = [[] for _ in range(60)]
    method._tokens = PassageTokens(trainer.rag.passage_encoder, PASSAGES[:1])
    inputs = method.inputs(trainer.data_collator([trainer.train_dataset[0]]), None, trainer.tokens)
    assert inputs["passage_rows"].tolist() == [[-1, -1, -1]] and len(inputs["passage_input_ids"]) == 1
