import pytest
import torch
from test_rag import ROWS, batch_of
from tiny_parts import PASSAGES, QUESTIONS, bart_tokenizer, llama, plain_answers, plain_log_likelihoods, rag_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BloomConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    StableLmConfig,
)

from ragtune.errors import ModelError
from ragtune.hub import check_positions
from ragtune.models.generators import likelihood
from ragtune.models.generators.causal import CausalGenerator
from ragtune.models.generators.loading import load_generator
from ragtune.models.inputs import PromptBuilder
from ragtune.models.rag import RagConfig

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
WIDE = {"initializer_range": 0.5, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": None}
# Rotary positions, learned ones (and Conv1D for Linear), none but distances, and a window of 8 tokens.
CONFIGS = {
    "llama": lambda words: LlamaConfig(vocab_size=words, **SIZES, **WIDE),
    "stablelm": lambda words: StableLmConfig(vocab_size=words, num_key_value_heads=2, **SIZES, **WIDE),
    "gpt2": lambda words: GPT2Config(vocab_size=words, n_embd=16, n_layer=2, n_head=2, n_positions=128, **WIDE),
    "bloom": lambda words: BloomConfig(vocab_size=words, hidden_size=16, n_layer=2, n_head=2, **WIDE),
    "mistral": lambda words: MistralConfig(vocab_size=words, num_key_value_heads=1, sliding_window=8, **SIZES, **WIDE),
}
ANSWERS = [(40, 50, 2), (60, 2), (70, 80, 90, 2), (2,)]


def unpadded_tokenizer():
    """As many decoder-only models': no pad token."""
    tokenizer = bart_tokenizer()
    tokenizer.pad_token = None
    return tokenizer


def generator_of(architecture, seed=0):
    torch.manual_seed(seed)
    tokenizer = unpadded_tokenizer()
    backbone = AutoModelForCausalLM.from_config(CONFIGS[architecture](len(tokenizer)))
    return CausalGenerator(backbone.eval(), tokenizer)


def prompts_of(generator):
    """Of unequal length, each with one passage."""
    builder = PromptBuilder(generator.prompt_tokens, PASSAGES, RagConfig())
    return builder.build(QUESTIONS, [[0], [2], [1], [3]])


def padded_right(prompts):
    """The same prompts with their padding behind them."""
    ids, mask = prompts["input_ids"].clone(), prompts["attention_mask"].clone()
    for row, length in enumerate(mask.sum(dim=1).tolist()):
        ids[row] = ids[row].roll(length)
        mask[row] = mask[row].roll(length)
    assert (mask[:, 0] == 1).all()
    return {"input_ids": ids, "attention_mask": mask}


def labels_of(answers):
    longest = max(map(len, answers))
    return torch.tensor([[*answer, *[-100] * (longest - len(answer))] for answer in answers])


def one_by_one(generator, prompts, answers):
    """The plain way: each prompt and answer in a pass of their own."""
    found = torch.zeros(len(answers), max(map(len, answers)))
    rows = zip(prompts["input_ids"], prompts["attention_mask"], answers, strict=True)
    for row, (ids, mask, answer) in enumerate(rows):
        found[row, : len(answer)] = plain_log_likelihoods(generator, ids[mask.bool()], answer)
    return found


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("tokens", [1, 90, 10_000], ids=["one-by-one", "in-groups", "at-once"])
@pytest.mark.parametrize("architecture", CONFIGS)
def test_likelihoods_equal_a_plain_forward_pass(architecture, tokens, side, monkeypatch):
    monkeypatch.setattr(likelihood, "_TOKENS_ON_CPU", tokens)
    generator = generator_of(architecture)
    prompts = prompts_of(generator)
    given = prompts if side == "left" else padded_right(prompts)
    with torch.no_grad():
        found = generator.log_likelihoods(**given, labels=labels_of(ANSWERS))
        expected = one_by_one(generator, prompts, ANSWERS)
    assert expected.min() < -3
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_groups_of_like_length_change_no_gradient(monkeypatch):
    model = rag_model("llama").double()
    batch = batch_of(model)
    inputs = (batch["context_input_ids"], batch["context_attention_mask"], batch["labels"].repeat_interleave(3, dim=0))
    found = []
    for tokens in (10_000, 90):
        monkeypatch.setattr(likelihood, "_TOKENS_ON_CPU", tokens)
        model.zero_grad()
        model.generator.log_likelihoods(*inputs).sum().backward()
        found.append(torch.cat([p.grad.flatten() for p in model.generator.parameters()]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-7, atol=1e-9)


def test_only_tokens_that_predict_a_label_reach_the_output_layer_and_padding_hardly_the_transformer(monkeypatch):
    monkeypatch.setattr(likelihood, "_TOKENS_ON_CPU", 90)
    model = rag_model("llama")
    batch = batch_of(model)
    labels = batch["labels"].repeat_interleave(3, dim=0)
    outputs, shapes = [], []
    backbone = model.generator.backbone
    backbone.lm_head.register_forward_hook(lambda module, args, output: outputs.append(output.shape[:-1].numel()))
    backbone.model.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    model.generator.log_likelihoods(batch["context_input_ids"], batch["context_attention_mask"], labels)
    assert sum(outputs) == int((labels != -100).sum())
    assert sum(rows for rows, _ in shapes) == ROWS.numel()
    read = int(batch["context_attention_mask"].sum() + (labels != -100).sum()) - len(labels)
    assert read <= sum(shape.numel() for shape in shapes) < 1.2 * read


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("architecture", CONFIGS)
def test_candidates_share_a_prompts_keys_and_values_and_score_as_in_a_plain_pass(architecture, side):
    generator = generator_of(architecture)
    prompts = prompts_of(generator)
    candidates = [[ANSWERS[0], ANSWERS[1]], [ANSWERS[2]], [ANSWERS[3], ANSWERS[0], ANSWERS[2]], [ANSWERS[1]]]
    lengths = []
    generator.backbone.base_model.register_forward_pre_hook(
        lambda module, args, kwargs: lengths.append(kwargs.get("input_ids", *args[:1]).shape[1]), with_kwargs=True
    )
    with torch.inference_mode():
        read = generator.read(**(prompts if side == "left" else padded_right(prompts)))
        scored = generator.score(read, candidates)
        again = generator.score(read, candidates)
    torch.testing.assert_close(scored, again, rtol=0, atol=0)
    assert lengths[0] == prompts["input_ids"].shape[1] - 1, "the prompts are read once"
    assert lengths[1:] == [4] * 6, "and then no more than the longest candidate, of either call"
    with torch.no_grad():
        for row, found in enumerate(candidates):
            prompt = prompts["input_ids"][row, prompts["attention_mask"][row].bool()]
            for number, candidate in enumerate(found):
                expected = plain_log_likelihoods(generator, prompt, candidate)
                own = scored[row, number, : len(candidate)]
                torch.testing.assert_close(own, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("architecture", CONFIGS)
def test_beam_search_from_the_keys_and_values_finds_what_it_finds_without(architecture, num_beams):
    generator = generator_of(architecture)
    prompts = prompts_of(generator)
    with torch.inference_mode():
        read = generator.read(**prompts)
        found = generator.propose(read, num_beams, num_beams, 5)
        assert generator.propose(read, num_beams, num_beams, 5) == found
        expected = []
        for ids, mask in zip(prompts["input_ids"], prompts["attention_mask"], strict=True):
            inputs = {"input_ids": ids[mask.bool()][None], "attention_mask": mask[mask.bool()][None]}
            options = {"num_beams": num_beams, "num_return_sequences": num_beams, "max_new_tokens": 5}
            expected += plain_answers(generator, inputs, pad_token_id=2, **options).tolist()
    ended = [tuple(tokens[: tokens.index(2) + 1] if 2 in tokens else tokens) for tokens in expected]
    assert found == ended
    assert len(set(found)) > 2


def test_a_prompt_of_one_token_can_be_answered():
    generator = generator_of("llama")
    with torch.inference_mode():
        read = generator.read(torch.tensor([[40]]), torch.tensor([[1]]))
        (found,) = generator.propose(read, 1, 1, 3)
        scored = generator.score(read, [[found]])[0, 0]
        torch.testing.assert_close(scored, plain_log_likelihoods(generator, [40], found), rtol=1e-5, atol=1e-5)


def test_prompts_end_where_the_answer_begins_and_padding_without_a_pad_token_is_hidden():
    generator = generator_of("llama")
    tokens = generator.prompt_tokens
    assert (tokens.before, tokens.behind, tokens.pads_left) == ([0], [], True)
    padded = tokens.pad([[40, 50], [60]])
    assert padded["input_ids"].tolist() == [[0, 40, 50], [2, 0, 60]]
    assert padded["attention_mask"].tolist() == [[1, 1, 1], [0, 1, 1]]
    assert generator.tokenizer.pad_token is None, "the tokenizer stays as it is"


@pytest.mark.parametrize(("architecture", "length"), [("gpt2", 124), ("bloom", 300)])
def test_prompt_and_answer_share_the_positions_that_there_are(architecture, length):
    generator = generator_of(architecture)
    check_positions(generator.backbone.config, architecture, length, 4)
    prompts = {"input_ids": torch.full((1, length), 40), "attention_mask": torch.ones(1, length).long()}
    with torch.no_grad():
        assert generator.log_likelihoods(**prompts, labels=labels_of(ANSWERS[2:3])).isfinite().all()


def test_a_tokenizer_without_an_end_token_is_an_error_that_says_what_to_do():
    tokenizer = bart_tokenizer()
    backbone = llama(tokenizer)
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match=r"no eos_token.*tokenizer_config\.json"):
        CausalGenerator(backbone, tokenizer)


def test_weights_per_token_count_the_output_layer_for_answers_alone():
    generator = generator_of("gpt2")
    words = len(generator.tokenizer)
    of_layers = 2 * 12 * 16 * 16  # query, key, value, output, and a feed-forward layer four times as wide
    assert generator.weights_per_token() == (of_layers, of_layers + 16 * words)


def test_a_pass_over_a_saved_models_own_class_gives_the_same(tmp_path):
    """What `save_pretrained` leaves is an ordinary folder of transformers."""
    generator = generator_of("gpt2")
    generator.save_pretrained(tmp_path)
    prompts = prompts_of(generator)
    with torch.no_grad():
        expected = generator.log_likelihoods(**prompts, labels=labels_of(ANSWERS))
        loaded = load_generator(tmp_path)
        assert isinstance(loaded, CausalGenerator)
        assert torch.equal(loaded.log_likelihoods(**prompts, labels=labels_of(ANSWERS)), expected)
    assert AutoTokenizer.from_pretrained(tmp_path).pad_token is None
    assert torch.equal(AutoModelForCausalLM.from_pretrained(tmp_path).lm_head.weight, generator.backbone.lm_head.weight)
