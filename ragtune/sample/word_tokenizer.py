"""A word-level tokenizer: small corpora have few words, and a word that is one token is copied in one step.

BPE of 2,000 pieces made the same generator copy worse: half-words have to be copied in order and then stopped at.
"""

from collections import Counter
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import WordLevel, WordPiece
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
BLANK = "_"  # stands for the words that a warm-up task leaves out
_SPACE = "▁"  # as in SentencePiece: a token that starts with it follows white space
_WORDS = rf"{_SPACE}?\+?\w+(?:[-'’]\w+)*|{_SPACE}?[^\w{_SPACE}]|{_SPACE}"
_BERT = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
_PUNCTUATION = "_.,;:!?()/-'\""


def build_word_tokenizer(texts: Iterable[str], max_words: int = 30_000) -> PreTrainedTokenizerFast:
    """A tokenizer whose tokens are the texts' words (case, accents, hyphens kept) and single punctuation marks.

    A token knows whether white space stands before it, so decoding gives clean text back. Every sequence ends in
    `</s>`; a word outside the vocabulary is `<unk>`.

    Args:
        texts: what the vocabulary is taken from.
        max_words: the most frequent ones are kept; ties go by the alphabet.
    """
    counts = Counter(word for text in texts for word, _ in _splitter().pre_tokenize_str(_marked(text)))
    always = [mark for character in _PUNCTUATION for mark in (character, _SPACE + character)]
    frequent = sorted(counts.keys() - set(always), key=lambda word: (-counts[word], word))[:max_words]
    vocabulary = {token: number for number, token in enumerate([PAD, END, UNKNOWN, *always, *frequent])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = _normalizer()
    tokenizer.pre_tokenizer = _splitter()
    tokenizer.decoder = decoders.Sequence([decoders.Replace(_SPACE, " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = TemplateProcessing(f"$A {END}", f"$A $B {END}", [(END, vocabulary[END])])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, unk_token=UNKNOWN)


def _normalizer() -> normalizers.Normalizer:
    return normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Strip(),
            normalizers.Replace(Regex(r"\s+"), _SPACE),
            normalizers.Prepend(_SPACE),
        ]
    )


def _marked(text: str) -> str:
    return _normalizer().normalize_str(text)


def _splitter() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(_WORDS), "isolated")


def build_wordpiece_tokenizer(texts: Iterable[str], max_words: int = 30_000) -> PreTrainedTokenizerFast:
    """BERT's uncased tokenizer with the texts' words as its vocabulary; any other word falls into single characters.

    Args:
        texts: what the vocabulary is taken from.
        max_words: the most frequent ones are kept; ties go by the alphabet.
    """
    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    counts = Counter(word for text in texts for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    characters = sorted({character for word in counts for character in word})
    pieces = [*_BERT.values(), *characters, *(f"##{character}" for character in characters)]
    frequent = sorted(counts.keys() - set(pieces), key=lambda word: (-counts[word], word))[:max_words]
    vocabulary = {token: number for number, token in enumerate([*pieces, *frequent])}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token=_BERT["unk_token"]))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.WordPiece()
    ends = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]", ends)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **_BERT)
