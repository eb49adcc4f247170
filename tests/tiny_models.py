"""Models so small that they load and answer in milliseconds; random weights, real classes, real folders."""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import (  # type: ignore[attr-defined]  # BertTokenizerFast is made at run time
    BertTokenizerFast,
    DPRConfig,
    DPRContextEncoder,
    DPRQuestionEncoder,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)


def save_tiny_parts(folder, texts, seed=0):
    """DPR question encoder, DPR passage encoder and a T5, all knowing the words of `texts`; their three folders."""
    words = sorted({word for text in texts for word in _words(text)})
    torch.manual_seed(seed)
    _save_encoder(folder / "question_encoder", DPRQuestionEncoder, words)
    _save_encoder(folder / "passage_encoder", DPRContextEncoder, words)
    save_word_t5(folder / "generator", words, pre_tokenizers.BertPreTokenizer(), d_ff=32, initializer_factor=5.0)
    return tuple(str(folder / part) for part in ("question_encoder", "passage_encoder", "generator"))


def _words(text):
    return [word for word, _ in pre_tokenizers.BertPreTokenizer().pre_tokenize_str(text.lower())]


def _save_encoder(folder, model_class, words):
    folder.mkdir(parents=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    BertTokenizerFast.from_pretrained(folder).save_pretrained(folder)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    model_class(DPRConfig(vocab_size=len(vocabulary), initializer_range=0.5, **sizes)).save_pretrained(folder)


def save_word_t5(folder, words, pre_tokenizer, **sizes):
    """A T5 of one layer with a token a word; `sizes` are T5Config's own."""
    vocabulary = {word: number for number, word in enumerate(["<pad>", "</s>", "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.post_processor = TemplateProcessing("$A </s>", "$A $B </s>", [("</s>", 1)])
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    sizes |= {"d_model": 32, "d_kv": 16, "num_layers": 1, "num_heads": 2}
    config = T5Config(vocab_size=len(vocabulary), decoder_start_token_id=0, pad_token_id=0, eos_token_id=1, **sizes)
    T5ForConditionalGeneration(config).save_pretrained(folder)
