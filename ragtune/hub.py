"""Tokenizers and JSON files of a local folder or a repository on the hub, without torch and without weights.

A name on the hub may carry a revision behind an @: `facebook/bart-large@main`, or a commit's hash.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import normalizers
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase
from transformers.utils import cached_file, logging

from ragtune.errors import ModelError

# sentence-transformers' names of the prompts before questions and passages, the first that is there.
PROMPT_NAMES = {"question": ("query",), "passage": ("document", "passage", "corpus")}


def split_revision(name_or_path: str | Path) -> tuple[str, str | None]:
    """A hub name and its revision, None where it has none; a local folder stays whole.

    >>> split_revision("facebook/bart-large@refs/pr/3")
    ('facebook/bart-large', 'refs/pr/3')
    """
    place = str(name_or_path)
    name, at, revision = place.partition("@")
    if not at or Path(place).exists():
        return place, None
    return name, revision or None


def find_file(name_or_path: str, filename: str, subfolder: str = "") -> Path | None:
    """A file of a folder or hub repository, downloaded if need be; None where the repository has no such file.

    Raises:
        ModelError: there is no such folder or repository, or the hub cannot be reached.
    """
    name, revision = split_revision(name_or_path)
    if Path(name).is_dir():
        path = Path(name, subfolder, filename)
        return path if path.is_file() else None
    try:
        found = cached_file(
            name, filename, subfolder=subfolder, revision=revision, _raise_exceptions_for_missing_entries=False
        )
    except OSError as error:
        raise ModelError(f"{name_or_path}: there is no such folder, and the hub has no such model: {error}") from error
    return None if found is None else Path(found)


def read_json(name_or_path: str, filename: str, subfolder: str = "") -> Any:
    """A JSON file of a local folder or a hub repository; None where there is none.

    Raises:
        ModelError: there is no such folder or repository, or the file is broken.
    """
    path = find_file(name_or_path, filename, subfolder)
    if path is None:
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: not readable as JSON ({error}); copy it again") from error


def load_tokenizer(name_or_path: str | Path, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a generator, of a DPR encoder or of a sentence-transformers one.

    Transformers itself makes up a tokenizer of five tokens where there is none; here that is an error.

    Args:
        name_or_path: a local folder, or a name on the hub.
        trust_remote_code: run Python code that comes with the model. Off unless the source is trusted.

    Raises:
        ModelError: there is no tokenizer, or it is broken.
    """
    place = str(name_or_path)
    name, revision = split_revision(place)
    modules = read_json(place, "modules.json")
    subfolder = modules[0]["path"] if modules else ""
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(
                name, subfolder=subfolder, revision=revision or "main", trust_remote_code=trust_remote_code
            )
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise ModelError(
            f"{place}: its tokenizer cannot be loaded ({error}); a folder needs tokenizer.json or the files of its kind"
        ) from error
    files = set(tokenizer.vocab_files_names.values())  # none for tokenizers of bytes
    if files and not any(find_file(place, file, subfolder) for file in files | {"tokenizer.json"}):
        raise ModelError(
            f"{place}: its tokenizer cannot be loaded: none of {', '.join(sorted(files))} is there; copy the folder "
            "whole"
        )
    if modules and (read_json(place, "sentence_bert_config.json", subfolder) or {}).get("do_lower_case"):
        first = tokenizer.backend_tokenizer.normalizer
        steps = [normalizers.Lowercase()] + ([first] if first is not None else [])
        tokenizer.backend_tokenizer.normalizer = normalizers.Sequence(steps)
    return tokenizer


def generator_family(name_or_path: str | Path, trust_remote_code: bool = False) -> str:
    """Tell by its config.json what kind of generator a model is: "seq2seq", an encoder-decoder, or "causal".

    Args:
        name_or_path: a local folder, or a name on the hub.
        trust_remote_code: run Python code that comes with the model. Off unless its source is trusted.

    Raises:
        ModelError: it cannot be read, or the model writes no text.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    config = generator_config(name_or_path, trust_remote_code)
    if config.is_encoder_decoder:
        return "seq2seq"
    known = set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    held = config.architectures or [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type, config.model_type)]
    if known & set(held) or "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {}):
        return "causal"
    raise ModelError(
        f"{name_or_path}: holds {', '.join(held)}, which writes no text: a generator is an encoder-decoder, such as "
        "BART or T5, or a decoder-only model, such as Llama or Qwen, saved with its output layer"
    )


def generator_config(name_or_path: str | Path, trust_remote_code: bool = False) -> PreTrainedConfig:
    """Load a generator's config.json; arguments as of `generator_family`.

    Raises:
        ModelError: it cannot be read.
    """
    name, revision = split_revision(name_or_path)
    try:
        return AutoConfig.from_pretrained(name, revision=revision or "main", trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{name_or_path}: its config.json cannot be read as a generator's: {error}") from error


def check_positions(
    config: PreTrainedConfig, name_or_path: str | Path, max_input_tokens: int, max_answer_tokens: int
) -> None:
    """Refuse inputs and answers that are longer than what a generator was made for, if its config.json tells.

    Args:
        config: from `generator_config`.
        name_or_path: of the generator, for the error.
        max_input_tokens, max_answer_tokens: of the run; a decoder-only model reads both in a row.

    Raises:
        ModelError: it has no positions for so many.
    """
    asked = {"max_input_tokens": max_input_tokens, "max_answer_tokens": max_answer_tokens}
    needs = {"encoder": ["max_input_tokens"], "decoder": ["max_answer_tokens"]}
    for side, names in needs.items() if config.is_encoder_decoder else [("decoder", list(asked))]:
        own = getattr(config, side, config) if config.is_encoder_decoder else config.get_text_config()
        most = getattr(own, f"max_{side}_position_embeddings", None) or getattr(own, "max_position_embeddings", None)
        needed = sum(asked[name] for name in names)
        if most is not None and needed > most:
            given = " and ".join(f"{name}={asked[name]}" for name in names)
            raise ModelError(
                f"{name_or_path}: has {most} positions, and {given} need {needed}: lower {names[0]} to "
                f"{most - needed + asked[names[0]]} or less, or take another generator"
            )


def load_prompt(name_or_path: str | Path, role: str) -> str:
    """Read what a sentence-transformers encoder wants before every text, such as "query: "; "" for most.

    Args:
        name_or_path: a local folder, or a name on the hub.
        role: "question" or "passage"; an encoder with prompts has one for each.

    Raises:
        ModelError: there is no such folder or repository, or its file is broken.
    """
    settings = read_json(str(name_or_path), "config_sentence_transformers.json") or {}
    prompts = settings.get("prompts") or {}
    return next((prompts[name] for name in PROMPT_NAMES[role] if prompts.get(name)), "")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Turn transformers' bars and its report of weights off inside the block; our errors replace them."""
    verbosity, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bars:
            logging.enable_progress_bar()
