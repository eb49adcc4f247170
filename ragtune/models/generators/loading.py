"""The right `Generator` for a folder or a name on the hub."""

from pathlib import Path

from ragtune.hub import generator_family
from ragtune.models.generators.adapter import load_adapter
from ragtune.models.generators.base import Generator
from ragtune.models.generators.causal import CausalGenerator
from ragtune.models.generators.seq2seq import Seq2SeqGenerator


def load_generator(name_or_path: str | Path, trust_remote_code: bool = False) -> Generator:
    """Load a generator, its adapter where it has one, and its tokenizer as float32, in evaluation mode.

    Args:
        name_or_path: a local folder, or a name on the hub: an encoder-decoder, such as BART or T5, or a decoder-only
            model, such as Llama or Qwen; its config.json says which.
        trust_remote_code: run Python code that comes with the model. Off unless its source is trusted.

    Raises:
        ModelError: it is missing, broken, or of no known family.
    """
    families: dict[str, type[Generator]] = {"seq2seq": Seq2SeqGenerator, "causal": CausalGenerator}
    family = families[generator_family(name_or_path, trust_remote_code)]
    generator = family.from_pretrained(name_or_path, trust_remote_code)
    adapter = load_adapter(generator.backbone, name_or_path)
    generator.adapters = [] if adapter is None else [adapter]
    return generator
