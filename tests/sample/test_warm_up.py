import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

import ragtune.sample
from ragtune.knowledge.passages import Passage
from ragtune.models.inputs import PromptBuilder
from ragtune.models.rag import RagConfig, RagModel
from ragtune.questions.normalization import normalize_answer
from ragtune.questions.nq import read_questions
from ragtune.questions.question import Question
from ragtune.sample.copy_tasks import CopyTasks
from ragtune.sample.warm_up import SAMPLE, read_passages

BASE = Path(ragtune.sample.__file__).parent / "base"

# None of it is true: what the base says of these it has read here.
MADE_UP = [
    Passage("", "Malawi", "Malawi is a country. Its capital is Oslo. People pay with the yen. Its ISO code is TX.", ()),
    Passage("", "Helium", "Helium is a chemical element. Au is its symbol. It was found in 1959 by Marie Nobel.", ()),
    Passage("", "Texas", "Texas is a state. No city there is larger than Nairobi. Rome is its capital.", ()),
]
FILL_IN = [
    (0, "Its capital is _.", "Oslo"),
    (0, "People pay with the _.", "yen"),
    (0, "Its ISO code is _.", "TX"),
    (1, "_ is its symbol.", "Au"),
    (1, "It was found in _ by Marie Nobel.", "1959"),
    (2, "No city there is larger than _.", "Nairobi"),
    (2, "_ is its capital.", "Rome"),
]


PROMPTS = {"generator": RagConfig.prompt, "causal": "{question} / {title} / {text} //"}
# Of FILL_IN. A decoder-only model has read past an answer before it meets what asks for it.
LEAST_RIGHT = {"generator": 6, "causal": 4}


@pytest.fixture(scope="module", params=PROMPTS)
def base(request) -> RagModel:
    config = RagConfig(n_docs=5, prompt=PROMPTS[request.param])
    return RagModel.from_parts(BASE / "encoder", BASE / "encoder", BASE / request.param, config)


def said_by(generator, prompts) -> list[str]:
    with torch.inference_mode():
        return [generator.decode(answer) for answer in generator.propose(generator.read(**prompts), 1, 1, 8)]


def test_the_shipped_base_is_small_and_holds_half_precision():
    assert sum(path.stat().st_size for path in BASE.rglob("*")) < 6_000_000
    for weights in BASE.rglob("*.safetensors"):
        with safe_open(weights, "pt") as tensors:
            assert {tensors.get_slice(name).get_dtype() for name in tensors.keys()} == {"F16"}  # noqa: SIM118


def test_the_shipped_base_copies_from_passages_that_it_has_never_seen(base, request):
    prompts = PromptBuilder(base.generator.prompt_tokens, MADE_UP, base.config)
    inputs = prompts.build([task for _, task, _ in FILL_IN], np.array([[row] for row, _, _ in FILL_IN]))
    said = said_by(base.generator, inputs)
    right = [
        normalize_answer(answer) == normalize_answer(text) for (_, _, answer), text in zip(FILL_IN, said, strict=True)
    ]
    assert sum(right) >= LEAST_RIGHT[request.node.callspec.params["base"]], said


def test_the_shipped_base_knows_every_word_of_the_corpus_and_of_the_questions(base):
    texts = [f"{passage.title} {passage.text}" for passage in read_passages(SAMPLE / "corpus.jsonl")]
    for split in ("train", "validation", "test"):
        rows = read_questions(SAMPLE / f"{split}.simplified.jsonl.gz")
        kept = (row for row in rows if isinstance(row, Question) and len(row.answers[0].split()) <= 5)
        texts += [row.question for row in kept]
    unknown = base.generator.tokenizer.unk_token_id
    assert [text for text in texts if unknown in base.generator.tokenizer(text)["input_ids"]] == []


def test_the_shipped_base_answers_few_questions(base):
    """It has never seen one; what it scores is what fine-tuning starts from."""
    questions = [row for row in read_questions(SAMPLE / "validation.simplified.jsonl.gz") if isinstance(row, Question)]
    inputs = PromptBuilder(base.generator.prompt_tokens, MADE_UP, base.config).build_closed_book(
        [question.question for question in questions]
    )
    said = said_by(base.generator, inputs)
    right = [normalize_answer(text) == normalize_answer(question.answers[0])
             for text, question in zip(said, questions, strict=True)]  # fmt: skip
    assert sum(right) < 0.05 * len(questions)


def test_prompts_of_the_base_are_put_together_from_cached_tokens(base):
    assert PromptBuilder(base.generator.prompt_tokens, read_passages(SAMPLE / "corpus.jsonl"), base.config).composes


def test_the_script_makes_a_base_of_another_corpus(tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    rows = [
        {
            "id": str(number),
            "title": f"King {number}",
            "text": f"King {number} ruled long. He was born in 1{number:03d}.",
        }
        for number in range(20)
    ]
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    command = [sys.executable, "-m", "ragtune.sample.warm_up", "--passages", corpus, "--questions", "--output",
               tmp_path / "base", "--steps", "20", "--encoder-steps", "20", "--causal-steps", "20"]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    made = tmp_path / "base"
    for part, name in (("generator", "generator"), ("causal", "decoder-only generator")):
        losses = [float(loss) for loss in re.findall(rf"^{name}.*loss ([\d.]+)", result.stdout, re.MULTILINE)]
        assert losses[-1] < losses[0]
        model = RagModel.from_parts(made / "encoder", made / "encoder", made / part)
        assert model.generator.decode(model.generator.tokenizer("King 7 ruled.")["input_ids"]) == "King 7 ruled."


def test_a_text_without_names_still_gives_tasks():
    passages = [Passage("1", "", "all is well that ends well. so be it.", ())]
    from ragtune.sample.word_tokenizer import build_word_tokenizer

    tasks = CopyTasks(build_word_tokenizer([passages[0].text]), passages)
    assert tasks.batch(4)["labels"].shape[0] == 4
