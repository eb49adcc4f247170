import json

import pytest

CORPUS = [
    "who got the first nobel prize in physics",
    "when is the next deadpool movie being released",
    "Wilhelm Conrad Röntgen",
    "May 18, 2018",
    "Linda Davis sings with Reba McEntire",
    "the quick brown fox jumps over the lazy dog 0123456789",
]


@pytest.fixture(scope="session")
def bart_tokenizer():
    """A BartTokenizer (byte-level BPE, <s> … </s>) trained on a few lines."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    trained.train_from_iterator(CORPUS, trainer)
    model = json.loads(trained.to_str())["model"]
    return transformers.BartTokenizer(vocab=model["vocab"], merges=[tuple(merge) for merge in model["merges"]])


@pytest.fixture(scope="session")
def t5_tokenizer():
    """A T5Tokenizer (unigrams, no BOS, … </s>) that knows only the letters of a few lines."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    trained = Tokenizer(models.Unigram())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    trained.train_from_iterator(CORPUS, trainer)
    pieces = json.loads(trained.to_str())["model"]["vocab"]
    return transformers.T5Tokenizer(vocab=[tuple(piece) for piece in pieces])
