"""Encoders and generators of a few thousand random weights, by the real classes: BART, T5, encoder-decoder, Llama."""

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BartTokenizer,
    BertConfig,
    BertModel,
    BertTokenizer,
    DPRConfig,
    DPRContextEncoder,
    DPRQuestionEncoder,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
    T5Tokenizer,
)

from ragtune.knowledge.passages import Passage
from ragtune.models.encoders import Encoder
from ragtune.models.generators.causal import CausalGenerator
from ragtune.models.generators.seq2seq import Seq2SeqGenerator
from ragtune.models.pooling import Pooling
from ragtune.models.rag import RagConfig, RagModel

PASSAGES = [
    Passage("p0", "Paris", "Paris is the capital of France, founded in the 3rd century BC.", ("p0",)),
    Passage("p1", "", "Berlin is the capital (and largest city) of Germany; it isn't on the sea.", ("p1",)),
    Passage("p2", '"Rome"', "Rome is the capital of Italy / Latium  and was built on seven hills.", ("p2",)),
    Passage("p3", "Côte d'Ivoire", "Yamoussoukro is its capital since 1983, 100% so.", ("p3",)),
    Passage("p4", "Vienna", "Vienna is the capital of Austria.", ("p4",)),
]
QUESTIONS = [
    "what is the capital of France?",
    "Which city was built on seven hills",
    "is Berlin on the sea?",
    "capital of Côte d'Ivoire since 1983",
]
TEXTS = [f"{passage.title} {passage.text}" for passage in PASSAGES] + QUESTIONS
ENCODER_SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
SEQ2SEQ_KINDS = ("bart", "t5", "encoder-decoder")
KINDS = (*SEQ2SEQ_KINDS, "llama")


def bert_tokenizer():
    words = {w for text in TEXTS for w, _ in pre_tokenizers.BertPreTokenizer().pre_tokenize_str(text.lower())}
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(words)]
    return BertTokenizer(vocab={word: number for number, word in enumerate(vocabulary)}, model_max_length=128)


def bart_tokenizer():
    """Byte-level BPE, <s> … </s>."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(vocab_size=360, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    model = _model(tokenizer)
    return BartTokenizer(vocab=model["vocab"], merges=[tuple(merge) for merge in model["merges"]])


def t5_tokenizer():
    """Unigrams, no beginning, … </s>: words, their first and last halves, and letters.

    Not trained: the trainer of `tokenizers` counts in an order that differs from process to process.
    """
    words = sorted({"▁" + word for text in [*TEXTS, "/ //"] for word in text.split()})
    halves = {part for word in words for part in (word[: len(word) // 2 + 1], word[len(word) // 2 + 1 :])}
    letters = {letter for word in words for letter in word}
    pieces = [*[(word, -4.0) for word in words[::2]], *[(part, -5.0) for part in sorted(halves - set(words) - {""})]]
    pieces += [(letter, -8.0) for letter in sorted(letters - {piece for piece, _ in pieces})]
    return T5Tokenizer(vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0), *pieces], extra_ids=0)


def word_tokenizer():
    """A word a token, … </s>; what the offline sample's T5 reads."""
    words = sorted({w for text in [*TEXTS, "/ //"] for w, _ in pre_tokenizers.Whitespace().pre_tokenize_str(text)})
    vocabulary = {word: number for number, word in enumerate(["<pad>", "</s>", "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = TemplateProcessing("$A </s>", "$A $B </s>", [("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def straddling_tokenizer():
    """Unigrams over the whole string, spaces like letters: a token may reach over a word's end, as in "of the"."""
    tokenizer = Tokenizer(
        models.Unigram(
            [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), (". // ", -1.0), ("?", -2.0)]
            + [(letter, -5.0) for letter in sorted({letter for text in TEXTS for letter in text + "/"})],
            unk_id=2,
        )
    )
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = TemplateProcessing("$A </s>", "$A $B </s>", [("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def bart(tokenizer, init_std=0.4, **settings):
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_position_embeddings": 320}
    config = BartConfig(
        vocab_size=len(tokenizer), init_std=init_std, dropout=0.0, **sizes, **heads, **_ids(tokenizer, 2), **settings
    )
    return BartForConditionalGeneration(config).eval()


def t5(tokenizer, **settings):
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "dropout_rate": 0.0}
    config = T5Config(vocab_size=len(tokenizer) + 3, initializer_factor=4.0, **sizes, **_ids(tokenizer, 0), **settings)
    return T5ForConditionalGeneration(config).eval()


def encoder_decoder(tokenizer):
    """Two BERTs; CLS begins an answer and SEP ends it."""
    part = BertConfig(vocab_size=len(tokenizer), initializer_range=0.8, hidden_dropout_prob=0.0, **ENCODER_SIZES)
    config = EncoderDecoderConfig.from_encoder_decoder_configs(part, part)
    model = EncoderDecoderModel(config)
    for settings in (model.config, model.generation_config):
        settings.decoder_start_token_id = tokenizer.cls_token_id
        settings.pad_token_id = tokenizer.pad_token_id
        settings.eos_token_id = tokenizer.sep_token_id
    return model.eval()


def llama(tokenizer, init_std=0.4, **settings):
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    ids = {name: value for name, value in _ids(tokenizer, 2).items() if name != "decoder_start_token_id"}
    config = LlamaConfig(vocab_size=len(tokenizer), initializer_range=init_std, **sizes, **ids, **settings)
    return LlamaForCausalLM(config).eval()


def generator_and_tokenizer(kind, **settings):
    if kind == "bart":
        tokenizer = bart_tokenizer()
        return bart(tokenizer, **settings), tokenizer
    if kind == "t5":
        tokenizer = t5_tokenizer()
        return t5(tokenizer, **settings), tokenizer
    if kind == "llama":
        tokenizer = bart_tokenizer()
        return llama(tokenizer, **settings), tokenizer
    tokenizer = bert_tokenizer()
    tokenizer.add_special_tokens({"eos_token": "[SEP]"})
    return encoder_decoder(tokenizer), tokenizer


def tiny_generator(kind, **settings):
    family = CausalGenerator if kind == "llama" else Seq2SeqGenerator
    return family(*generator_and_tokenizer(kind, **settings))


def plain_log_likelihoods(generator, prompt, answer):
    """log p of each of an answer's tokens, (length,), from one pass of the transformer over one prompt without padding.

    `prompt` and `answer` are token ids; the tokens that belong around a prompt are in it.
    """
    prompt, answer = torch.as_tensor(prompt)[None], torch.as_tensor(answer)[None]
    if isinstance(generator, CausalGenerator):
        logits = generator.backbone(torch.cat([prompt, answer], dim=1)).logits[:, prompt.shape[1] - 1 : -1]
    else:
        logits = generator.backbone(input_ids=prompt, decoder_input_ids=generator.decoder_inputs(answer)).logits
    return logits.log_softmax(-1)[0].gather(-1, answer[0][:, None]).flatten()


def plain_answers(generator, inputs, **options):
    """Token ids of `generate` from prompts and no cache: what stands behind a prompt, or the decoder's start."""
    written = inputs["input_ids"].shape[1] if isinstance(generator, CausalGenerator) else 1
    return generator.backbone.generate(**inputs, do_sample=False, **options)[:, written:]


def dpr_encoder(role="question", dimension=16):
    """A DPR encoder; a dimension other than 16 comes from a projection."""
    model_class = {"question": DPRQuestionEncoder, "passage": DPRContextEncoder}[role]
    tokenizer = bert_tokenizer()
    projection = 0 if dimension == 16 else dimension
    config = DPRConfig(
        vocab_size=len(tokenizer),
        projection_dim=projection,
        initializer_range=0.3,
        hidden_dropout_prob=0.0,
        **ENCODER_SIZES,
    )
    return Encoder(model_class(config).eval(), tokenizer, Pooling("dpr", ("cls",), False, 128), f"tiny-{role}")


def bert(tokenizer, **settings):
    config = BertConfig(
        vocab_size=len(tokenizer), initializer_range=0.3, hidden_dropout_prob=0.0, **ENCODER_SIZES, **settings
    )
    return BertModel(config).eval()


def rag_model(kind="bart", seed=0, marginalization="sequence", temperature=1.0, **settings):
    torch.manual_seed(seed)
    config = RagConfig(marginalization=marginalization, temperature=temperature, n_docs=3, max_answer_tokens=8)
    generator = tiny_generator(kind, **settings)
    return RagModel(dpr_encoder("question"), dpr_encoder("passage"), generator, config)


def _ids(tokenizer, start):
    return {
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "decoder_start_token_id": start,
    }


def _model(tokenizer):
    import json

    return json.loads(tokenizer.to_str())["model"]
