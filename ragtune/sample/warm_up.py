"""Make the tiny base models of the offline demo, from passages alone.

    python -m ragtune.sample.warm_up [--passages FILE] [--questions FILE ...] [--output DIR] [--parts PART ...]

Three folders come out, all float16 safetensors: `encoder`, in the layout of sentence-transformers, for questions and
passages, `generator`, a T5, and `causal`, a decoder-only generator. None has seen a question; of the question files,
only the words are taken.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedTokenizerBase, StableLmForCausalLM, T5ForConditionalGeneration

from ragtune.files import atomic_path
from ragtune.knowledge.corpus import read_corpus
from ragtune.knowledge.passages import Passage
from ragtune.models.encoders import Encoder
from ragtune.models.generators.causal import CausalGenerator
from ragtune.models.losses import IGNORED
from ragtune.progress import progress
from ragtune.questions.nq import read_questions
from ragtune.sample.copy_tasks import CopyTasks
from ragtune.sample.copying import copying_generator
from ragtune.sample.copying_causal import copying_causal_generator
from ragtune.sample.inverse_cloze import inverse_cloze_batches, inverse_cloze_loss, tiny_encoder
from ragtune.sample.word_tokenizer import build_word_tokenizer, build_wordpiece_tokenizer

SAMPLE = Path(__file__).parent
PARTS = ("encoder", "generator", "causal")
GENERATOR_STEPS = 3000
ENCODER_STEPS = 300
CAUSAL_STEPS = 1500
# Until a share of the steps, texts of so many sentences: among few words, a model soon finds out that it has to copy.
_SENTENCES_UNTIL = ((0.4, 2), (2 / 3, 4), (1.0, 0))
_UNFINISHED = 0.75  # of the decoder-only generator's schedule: its learning rate is still high at its last step
_RAMP_STEPS = 50
_LAST_RATE = 0.02  # of the peak learning rate
_REPORTS = 20  # lines of a training


def warm_up(
    passages: Sequence[Passage],
    questions: Sequence[str],
    folder: str | Path,
    *,
    parts: Sequence[str] = PARTS,
    generator_steps: int = GENERATOR_STEPS,
    encoder_steps: int = ENCODER_STEPS,
    causal_steps: int = CAUSAL_STEPS,
    max_words: int = 30_000,
    seed: int = 0,
) -> None:
    """Train models from their first weights and write them to `folder`/encoder, `folder`/generator, `folder`/causal.

    Args:
        passages: what they learn to read.
        questions: their words join the vocabularies; nothing else of them is used.
        folder: parts that stand there before are replaced, each in the end.
        parts: of `PARTS`, those to make.
        generator_steps, causal_steps: batches of copying tasks.
        encoder_steps: batches of the inverse cloze task.
        max_words: the most frequent words that have a token of their own.
        seed: random seed of the weights and the tasks.
    """
    titles = [f"{passage.title} {passage.title.lower()}" for passage in passages]
    texts = [*titles, *(passage.text for passage in passages), *questions]
    if "encoder" in parts:
        encoder = warm_encoder(build_wordpiece_tokenizer(texts, max_words), passages, encoder_steps, seed=seed)
        with atomic_path(Path(folder) / "encoder") as temporary:
            encoder.half().save_pretrained(temporary)
    tokenizer = build_word_tokenizer(texts, max_words)
    for part, train, steps in (
        ("generator", warm_generator, generator_steps),
        ("causal", warm_causal_generator, causal_steps),
    ):
        if part in parts:
            model = train(tokenizer, passages, steps, seed=seed)
            with atomic_path(Path(folder) / part) as temporary:
                model.half().save_pretrained(temporary)
                tokenizer.save_pretrained(temporary)


def read_passages(uri: str | Path) -> list[Passage]:
    """The rows of a corpus as passages, unsplit.

    Raises:
        StorageError, KnowledgeBaseError: see `ragtune.knowledge.corpus.read_corpus`.
    """
    return [Passage(row.id, row.title, row.text, (row.id,)) for row in read_corpus(uri)]


def warm_generator(
    tokenizer: PreTrainedTokenizerBase,
    passages: Sequence[Passage],
    steps: int,
    batch_size: int = 32,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> T5ForConditionalGeneration:
    """A structured T5 trained on copying tasks for `steps` batches."""
    generator = copying_generator(tokenizer, seed)
    tasks = CopyTasks(tokenizer, passages, seed)

    _train(generator, lambda: generator(**tasks.batch(batch_size)).loss, steps, learning_rate, "generator's warm-up")
    return generator


def warm_causal_generator(
    tokenizer: PreTrainedTokenizerBase,
    passages: Sequence[Passage],
    steps: int,
    batch_size: int = 16,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> StableLmForCausalLM:
    """A structured decoder-only model trained on copying tasks for `steps` batches, of short texts at first."""
    generator = CausalGenerator(copying_causal_generator(tokenizer, seed), tokenizer)
    tasks = CopyTasks(tokenizer, passages, seed, question_first=True)
    schedule = iter(range(1, steps + 1))

    def next_loss() -> Tensor:
        done = next(schedule) / steps
        tasks.most_sentences = next(most for until, most in _SENTENCES_UNTIL if done <= until)
        batch = tasks.batch(batch_size)
        labels = batch["labels"]
        found = generator.log_likelihoods(batch["input_ids"], batch["attention_mask"], labels)
        return -found.sum() / (labels != IGNORED).sum()

    _train(generator, next_loss, steps, learning_rate, "decoder-only generator's warm-up", _UNFINISHED)
    return generator.backbone


def warm_encoder(
    tokenizer: PreTrainedTokenizerBase,
    passages: Sequence[Passage],
    steps: int,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> Encoder:
    """A tiny encoder trained on the inverse cloze task for `steps` batches."""
    encoder = tiny_encoder(tokenizer, seed)
    batches = inverse_cloze_batches(passages, batch_size, seed)
    _train(encoder, lambda: inverse_cloze_loss(encoder, *next(batches)), steps, learning_rate, "encoder's warm-up")
    return encoder


def _train(
    model: nn.Module, next_loss: Callable[[], Tensor], steps: int, learning_rate: float, what: str, ends_at: float = 1.0
) -> None:
    """`ends_at`: the share of the learning rate's schedule that the steps go through."""
    optimizer = AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = LambdaLR(optimizer, lambda step: min((step + 1) / _RAMP_STEPS, _decayed(step / steps * ends_at)))
    model.train()
    recent: list[float] = []
    for step in progress(range(1, steps + 1), what, unit="steps"):
        loss = next_loss()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        recent.append(loss.item())
        if step % max(1, steps // _REPORTS) == 0:
            print(f"{what}: step {step}, loss {sum(recent) / len(recent):.3f}", flush=True)
            recent.clear()
    model.eval()


def _decayed(done: float) -> float:
    """The learning rate's share of its peak: 1 for the first third, then down a straight line."""
    return max(_LAST_RATE, min(1.0, (1 - done) * 1.5))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Make a tiny encoder and tiny generators that can read and copy.")
    parser.add_argument("--passages", default=SAMPLE / "corpus.jsonl", help="corpus with id, title, text (any URI)")
    parser.add_argument(
        "--questions",
        nargs="*",
        default=[SAMPLE / "train.simplified.jsonl.gz"],
        help="question files whose words join the vocabularies",
    )
    parser.add_argument("--output", type=Path, default=SAMPLE / "base", help="folder for the parts' folders")
    parser.add_argument("--steps", type=int, default=GENERATOR_STEPS, help="batches of the generator's warm-up")
    parser.add_argument("--encoder-steps", type=int, default=ENCODER_STEPS, help="batches of the encoder's")
    parser.add_argument("--causal-steps", type=int, default=CAUSAL_STEPS, help="of the decoder-only generator's")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS, help="those to make (default: all)")
    parser.add_argument("--max-words", type=int, default=30_000, help="words that have a token of their own")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    passages = read_passages(options.passages)
    questions = [row.question for uri in options.questions for row in read_questions(uri)]
    warm_up(
        passages,
        questions,
        options.output,
        generator_steps=options.steps,
        parts=options.parts,
        encoder_steps=options.encoder_steps,
        causal_steps=options.causal_steps,
        max_words=options.max_words,
        seed=options.seed,
    )


if __name__ == "__main__":
    main()
