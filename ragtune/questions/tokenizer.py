"""The tokenizer of an encoder or generator, without its weights: loaded, and told apart by its fingerprint."""

import hashlib
import json
from pathlib import Path
from typing import Any

from tokenizers import normalizers
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import cached_file

from ragtune.errors import QuestionError


def load_tokenizer(name_or_path: str | Path, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer of a generator, of a DPR encoder or of a sentence-transformers one, from a folder or the hub.

    Args:
        name_or_path: a local folder, or a name on the hub.
        trust_remote_code: run Python code that comes with the model. Off unless the source is trusted.

    Raises:
        QuestionError: there is none, or it cannot be read.
    """
    place = str(name_or_path)
    subfolder = _transformer_folder(place)
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, subfolder=subfolder, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise QuestionError(
            f"{place}: its tokenizer cannot be loaded ({error}); a folder needs tokenizer.json or the files of its kind"
        ) from error
    # Transformers makes up a tokenizer of a few tokens where there is a config.json alone.
    files = set(tokenizer.vocab_files_names.values())  # none for tokenizers of bytes
    if files and not any(_find(place, name, subfolder) for name in files | {"tokenizer.json"}):
        why = f"none of {', '.join(sorted(files))} is there; copy the folder whole"
        raise QuestionError(f"{place}: its tokenizer cannot be loaded: {why}")
    if (_read_json(place, "sentence_bert_config.json", subfolder) or {}).get("do_lower_case"):
        first = tokenizer.backend_tokenizer.normalizer
        steps = [normalizers.Lowercase()] + ([first] if first is not None else [])
        tokenizer.backend_tokenizer.normalizer = normalizers.Sequence(steps)
    return tokenizer


def load_question_prompt(name_or_path: str | Path) -> str:
    """What a sentence-transformers encoder wants before every question, such as "query: "; "" for most."""
    settings = _read_json(str(name_or_path), "config_sentence_transformers.json") or {}
    return (settings.get("prompts") or {}).get("query") or ""


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256, 64 hex digits, of what decides a tokenizer's output: vocabulary, rules, special tokens.

    The same before and after saving, and whatever padding and truncation it was last used with.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        rules: dict[str, Any] = {"class": type(tokenizer).__name__, "vocabulary": tokenizer.get_vocab()}
    else:
        rules = json.loads(backend.to_str())
        rules.pop("truncation", None)
        rules.pop("padding", None)
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    return hashlib.sha256(json.dumps([rules, special], sort_keys=True).encode()).hexdigest()


def _transformer_folder(place: str) -> str:
    modules = _read_json(place, "modules.json")
    return modules[0]["path"] if modules else ""


def _read_json(place: str, name: str, subfolder: str = "") -> Any:
    path = _find(place, name, subfolder)
    return None if path is None else json.loads(path.read_text("utf-8"))


def _find(place: str, name: str, subfolder: str) -> Path | None:
    try:
        path = cached_file(
            place,
            name,
            subfolder=subfolder,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    except OSError:  # no such place: what needs it says so
        return None
    return None if path is None else Path(path)
