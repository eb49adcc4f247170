import numpy as np
import pytest
import torch
from tiny_parts import (
    PASSAGES,
    QUESTIONS,
    bart_tokenizer,
    bert_tokenizer,
    llama,
    straddling_tokenizer,
    t5_tokenizer,
    word_tokenizer,
)
from transformers import RagConfig as HuggingFaceRagConfig
from transformers import RagRetriever

from ragtune.errors import ModelError
from ragtune.knowledge.passages import Passage
from ragtune.models.generators.causal import CausalGenerator
from ragtune.models.generators.seq2seq import prompt_tokens
from ragtune.models.inputs import PromptBuilder
from ragtune.models.rag import RagConfig

TOKENIZERS = [bart_tokenizer, t5_tokenizer, word_tokenizer, bert_tokenizer]
ROWS = np.array([[0, 1, 2], [2, 4, 1], [1, 0, 3], [3, 2, 4]])


def prompts_of(built):
    """Each prompt's tokens without padding."""
    pairs = zip(built["input_ids"], built["attention_mask"], strict=True)
    return [ids[mask.bool()].tolist() for ids, mask in pairs]


class _NoIndex:
    def init_index(self):
        pass


@pytest.mark.parametrize("make", TOKENIZERS)
def test_the_default_prompt_is_hugging_face_rags_own(make):
    tokenizer = make()
    docs = [{"title": [PASSAGES[r].title for r in rows], "text": [PASSAGES[r].text for r in rows]} for rows in ROWS]
    config = HuggingFaceRagConfig(max_combined_length=300)
    retriever = RagRetriever(config, tokenizer, tokenizer, index=_NoIndex(), init_retrieval=False)
    expected = retriever.postprocess_docs(docs, QUESTIONS, "", 3, return_tensors="pt")
    built = PromptBuilder(prompt_tokens(tokenizer), PASSAGES, RagConfig()).build(QUESTIONS, ROWS)
    assert prompts_of(built) == prompts_of({"input_ids": expected[0], "attention_mask": expected[1]})


@pytest.mark.parametrize("make", TOKENIZERS)
@pytest.mark.parametrize(
    "prompt",
    ["{title} / {text} // {question}", "question: {question} context: {title} {text}", "{text} {title} | {question} ?"],
)
def test_pieces_give_the_tokens_of_the_whole_string(make, prompt):
    tokenizer = make()
    builder = PromptBuilder(prompt_tokens(tokenizer), PASSAGES, RagConfig(prompt=prompt))
    assert builder.composes
    row = 4  # a plain title and text, which nothing is stripped from
    whole = prompt.format(title=PASSAGES[row].title, text=PASSAGES[row].text, question=QUESTIONS[0])
    assert prompts_of(builder.build(QUESTIONS[:1], [[row]])) == [tokenizer(whole)["input_ids"]]


def test_a_tokenizer_that_reaches_over_joints_is_given_whole_strings_and_says_so():
    tokenizer = straddling_tokenizer()
    with pytest.warns(UserWarning, match="tokenised whole"):
        builder = PromptBuilder(prompt_tokens(tokenizer), PASSAGES, RagConfig())
    assert not builder.composes
    whole = f"{PASSAGES[4].title} / {PASSAGES[4].text} // {QUESTIONS[0]}"
    assert prompts_of(builder.build(QUESTIONS[:1], [[4]])) == [tokenizer(whole)["input_ids"]]


@pytest.mark.parametrize("make", [*TOKENIZERS, straddling_tokenizer])
@pytest.mark.filterwarnings("ignore:.*tokenised whole")
def test_the_passage_is_cut_to_fit_and_the_question_never(make):
    tokenizer = make()
    question = tokenizer(" // " + QUESTIONS[3], add_special_tokens=False)["input_ids"]
    limit = len(question) + 10
    for tokens in prompts_of(
        PromptBuilder(prompt_tokens(tokenizer), PASSAGES, RagConfig(max_input_tokens=limit)).build(
            QUESTIONS[3:], ROWS[:1]
        )
    ):
        assert len(tokens) <= limit
        assert tokenizer.decode(question).replace(" ", "") in tokenizer.decode(tokens).replace(" ", "")
        assert tokens[-1] == tokenizer("a")["input_ids"][-1]


def test_a_cut_passage_keeps_its_beginning_and_fills_the_room():
    tokenizer = word_tokenizer()
    uncut, cut = (
        prompts_of(
            PromptBuilder(prompt_tokens(tokenizer), PASSAGES, RagConfig(max_input_tokens=n)).build(QUESTIONS[:1], [[0]])
        )[0]
        for n in (300, 20)
    )
    question = len(tokenizer("// " + QUESTIONS[0], add_special_tokens=False)["input_ids"]) + 1
    assert len(cut) == 20
    assert cut == uncut[: 20 - question] + uncut[-question:]


def test_a_question_longer_than_the_room_stays_whole_without_a_passage():
    tokenizer = word_tokenizer()
    built = PromptBuilder(prompt_tokens(tokenizer), PASSAGES, RagConfig(max_input_tokens=4)).build(QUESTIONS[:1], [[0]])
    assert prompts_of(built) == [tokenizer(" // " + QUESTIONS[0])["input_ids"]]


def test_padding_rows_get_the_bare_question():
    tokenizer = bart_tokenizer()
    built = PromptBuilder(prompt_tokens(tokenizer), PASSAGES, RagConfig()).build(QUESTIONS[:1], [[0, -1]])
    assert prompts_of(built)[1] == tokenizer(QUESTIONS[0])["input_ids"]


def test_closed_book_prompts_are_the_bare_questions_padded_to_the_longest():
    tokenizer = t5_tokenizer()
    built = PromptBuilder(prompt_tokens(tokenizer), [], RagConfig()).build_closed_book(QUESTIONS)
    expected = tokenizer(QUESTIONS, padding=True, return_tensors="pt")
    assert torch.equal(built["input_ids"], expected["input_ids"])
    assert torch.equal(built["attention_mask"], expected["attention_mask"])


def test_a_batch_is_padded_to_its_longest_prompt():
    built = PromptBuilder(prompt_tokens(bart_tokenizer()), PASSAGES, RagConfig()).build(QUESTIONS, ROWS)
    assert built["input_ids"].shape[1] == max(map(len, prompts_of(built)))
    assert built["input_ids"].dtype == torch.int64


def test_each_passage_is_read_once():
    class Counting(list):
        read = 0

        def __getitem__(self, row):
            type(self).read += 1
            return super().__getitem__(row)

    builder = PromptBuilder(prompt_tokens(word_tokenizer()), Counting(PASSAGES), RagConfig())
    Counting.read = 0
    first = builder.build(QUESTIONS, ROWS)
    second = builder.build(QUESTIONS, ROWS)
    assert Counting.read == len(PASSAGES)
    assert torch.equal(first["input_ids"], second["input_ids"])


def test_braces_in_a_passage_or_question_are_left_alone():
    from ragtune.knowledge.passages import Passage

    odd = [Passage("x", "{text}", "a {question} in {braces}", ("x",))]
    tokenizer = bart_tokenizer()
    tokens = prompts_of(PromptBuilder(prompt_tokens(tokenizer), odd, RagConfig()).build(["what is {title}?"], [[0]]))[0]
    assert tokenizer.decode(tokens, skip_special_tokens=True) == "{text} / a {question} in {braces} // what is {title}?"


@pytest.mark.parametrize("make", TOKENIZERS)
def test_all_passages_may_stand_in_one_prompt(make):
    tokenizer = make()
    builder = PromptBuilder(prompt_tokens(tokenizer), PASSAGES, RagConfig())
    single = prompts_of(builder.build(QUESTIONS[:1], [[4, 1]]))
    (prompt,) = prompts_of(builder.build_together(QUESTIONS[:1], [[4, 1, -1]]))
    before, behind = builder.tokens.before, builder.tokens.behind
    question = tokenizer(f" // {QUESTIONS[0]}", add_special_tokens=False)["input_ids"]
    passages = [tokens[len(before) : len(tokens) - len(behind) - len(question)] for tokens in single]
    between = tokenizer("\n", add_special_tokens=False)["input_ids"]
    assert prompt == before + passages[0] + between + passages[1] + question + behind


def test_of_a_prompt_that_is_too_long_the_longest_passages_lose_their_ends():
    passages = [Passage(text[:1], "", text, ()) for text in ("one two three", "x " * 90, "y " * 80)]
    tokenizer = word_tokenizer()
    builder = PromptBuilder(prompt_tokens(tokenizer), passages, RagConfig(max_input_tokens=60))
    (prompt,) = prompts_of(builder.build_together(["who ?"], [[0, 1, 2]]))
    assert len(prompt) in (59, 60)  # what two cannot share equally is left over
    pieces = [tokenizer(f"/ {passage.text}", add_special_tokens=False)["input_ids"] for passage in passages]
    question = tokenizer("// who ?")["input_ids"]
    share = (60 - len(question) - len(pieces[0])) // 2
    assert prompt == pieces[0] + pieces[1][:share] + pieces[2][:share] + question


# Chat templates

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<{{ message['role'] }}>\n"
    "{{ message['content'] | trim }}</turn>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>\n{% endif %}"
)


def chatting(template=TEMPLATE):
    """A decoder-only generator with byte-level BPE, whose tokenizer has a chat template."""
    tokenizer = bart_tokenizer()
    tokenizer.chat_template = template
    return CausalGenerator(llama(tokenizer), tokenizer)


@pytest.mark.parametrize("prompt", ["{title} / {text} // {question}", "{question} | {title} {text}"])
def test_a_chat_template_makes_the_prompt_a_users_message(prompt):
    generator = chatting()
    config = RagConfig(prompt=prompt)
    builder = PromptBuilder(generator.prompt_tokens, PASSAGES, config)
    message = prompt.format(title=PASSAGES[4].title, text=PASSAGES[4].text, question=QUESTIONS[0])
    chat = [{"role": "user", "content": message}]
    expected = generator.tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
    assert prompts_of(builder.build(QUESTIONS[:1], [[4]])) == [expected]
    bare = [{"role": "user", "content": QUESTIONS[0]}]
    expected = generator.tokenizer.apply_chat_template(bare, add_generation_prompt=True)["input_ids"]
    assert prompts_of(builder.build_closed_book(QUESTIONS[:1])) == [expected]


def test_a_chat_is_cut_in_the_passage_alone():
    generator = chatting()
    config = RagConfig(prompt="{question} | {title} {text}")
    made = []
    for config.max_input_tokens in (300, 45):
        built = PromptBuilder(generator.prompt_tokens, PASSAGES, config).build(QUESTIONS[:1], [[4]])
        made.append(generator.tokenizer.decode(prompts_of(built)[0]))
    whole, cut = made
    assert len(cut) < len(whole)
    assert cut.startswith(f"<s><user>\n{QUESTIONS[0]} | Vienna")
    assert cut.endswith("</turn><assistant>\n")


def test_without_a_template_or_without_its_use_a_prompt_is_as_it_is():
    generator = chatting()
    off = PromptBuilder(generator.prompt_tokens, PASSAGES, RagConfig(chat_template="off")).build(QUESTIONS[:1], [[4]])
    generator.tokenizer.chat_template = None
    auto = PromptBuilder(generator.prompt_tokens, PASSAGES, RagConfig()).build(QUESTIONS[:1], [[4]])
    assert prompts_of(off) == prompts_of(auto)
    assert generator.tokenizer.decode(prompts_of(auto)[0]).startswith("<s>Vienna / Vienna is")


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (None, "chat_template=on: the tokenizer of .* has no chat template; give off, or auto"),
        ("{{ raise_exception('alternate roles') }}", r"its chat template fails \(alternate roles\); chat_template=off"),
        ("nothing", "does not say the message once; chat_template=off"),
    ],
)
def test_a_chat_template_that_cannot_be_used_is_an_error(template, says):
    generator = chatting(template)
    with pytest.raises(ModelError, match=says):
        PromptBuilder(generator.prompt_tokens, PASSAGES, RagConfig(chat_template="on"))


def test_an_encoder_decoder_is_not_chatted_with():
    with pytest.raises(ModelError, match="only a decoder-only generator is chatted with"):
        PromptBuilder(prompt_tokens(bart_tokenizer()), PASSAGES, RagConfig(chat_template="on"))
    with pytest.raises(ModelError, match='chat_template "sometimes": choose one of auto, on, off'):
        RagConfig(chat_template="sometimes")
