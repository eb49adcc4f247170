"""A model's folder: question_encoder/, passage_encoder/, generator/, each with its tokenizer, and ragtune.json.

Weights are safetensors only; a folder appears whole or not at all.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from transformers import DPRQuestionEncoder, RagSequenceForGeneration, RagTokenForGeneration, RagTokenizer
from transformers import RagConfig as HuggingFaceRagConfig

from ragtune.errors import ModelError
from ragtune.files import atomic_path
from ragtune.knowledge.pointers import Pointer, pointer_from
from ragtune.models.generators.seq2seq import Seq2SeqGenerator
from ragtune.models.rag import RagConfig, RagModel

FORMAT = 1
_PARTS = ("question_encoder", "passage_encoder", "generator")
_HUGGING_FACE_PROMPT = RagConfig.prompt
_MARGINALIZATION_OF = {"rag": "sequence", "rag-token": "token"}  # as ragtune.json called it up to 0.1.0


def save_model(model: RagModel, folder: str | Path, lineage: Mapping[str, Any] | None = None) -> None:
    """Write the whole model; what stood at `folder` before is replaced in the end.

    Args:
        model: any RagModel.
        folder: where to.
        lineage: where it comes from (data hashes, knowledge base version, parameters …), JSON values.

    Raises:
        StorageError: the disk is full or the place may not be written.
    """
    with atomic_path(folder) as temporary:
        model.question_encoder.save_pretrained(temporary / "question_encoder")
        model.passage_encoder.save_pretrained(temporary / "passage_encoder")
        model.generator.save_pretrained(temporary / "generator")
        description = {
            "format": FORMAT,
            "config": asdict(model.config),
            "encoders": {
                "question": {"name": model.question_encoder.name, "fingerprint": model.question_encoder.fingerprint},
                "passage": {"name": model.passage_encoder.name, "fingerprint": model.passage_encoder.fingerprint},
            },
            "lineage": dict(lineage or {}),
        }
        (temporary / "ragtune.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def load_model(folder: str | Path, trust_remote_code: bool = False) -> RagModel:
    """Load what `save_model` wrote, in evaluation mode.

    Args:
        folder: a model folder.
        trust_remote_code: run Python code that comes with the model. Off unless its source is trusted.

    Raises:
        ModelError: it is no model folder, a part is missing or broken, or the parts do not fit.
    """
    folder = Path(folder)
    description = read_description(folder)
    for part in _PARTS:
        if not (folder / part / "config.json").is_file():
            raise ModelError(f"{folder / part}: this part of the model is missing; copy the folder whole")
    known = {field.name for field in fields(RagConfig)}
    unknown = sorted(set(description["config"]) - known)
    if unknown:
        raise ModelError(
            f"{folder}/ragtune.json: unknown settings {', '.join(unknown)}; a newer ragtune wrote it: update"
        )
    model = RagModel.from_parts(
        folder / "question_encoder",
        folder / "passage_encoder",
        folder / "generator",
        RagConfig(**description["config"]),
        trust_remote_code,
    )
    for encoder, role in ((model.question_encoder, "question"), (model.passage_encoder, "passage")):
        encoder.name = description["encoders"][role]["name"]
    return model


def read_description(folder: str | Path) -> dict[str, Any]:
    """`ragtune.json` of a model folder: format, config, encoders' names and fingerprints, lineage.

    What an earlier ragtune called `method` comes as `marginalization`.

    Raises:
        ModelError: there is none, or it is of a format that this version does not read.
    """
    path = Path(folder) / "ragtune.json"
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(
            f"{path}: missing, so this is no ragtune model; RagModel.from_parts loads bare parts"
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: not readable as JSON ({error}); copy the model again") from error
    if description.get("format") != FORMAT:
        raise ModelError(f"{path}: format {description.get('format')}, this ragtune reads {FORMAT}: update ragtune")
    if method := description["config"].pop("method", None):
        description["config"]["marginalization"] = _MARGINALIZATION_OF.get(method, method)
    return description


def knowledge_base_of(model_folder: str | Path) -> Pointer:
    """The version of the knowledge base that a model searches, as its lineage has it.

    That is the one it was trained with; where training moved the passage encoder, the one made with it in the end.

    Raises:
        ModelError: the model is none, or was not trained with a knowledge base.
    """
    try:
        return pointer_from(read_description(model_folder)["lineage"]["knowledge_base"])
    except (KeyError, TypeError) as error:
        raise ModelError(
            f"{model_folder}/ragtune.json: names no knowledge base; was this model trained by ragtune?"
        ) from error


def export_huggingface(model: RagModel, folder: str | Path) -> None:
    """Write what transformers' RagSequenceForGeneration (or RagTokenForGeneration) loads, with the same weights.

    Args:
        model: with a DPR question encoder, temperature 1 and the default prompt; transformers' classes have no others.
        folder: where to; the tokenizers go with it, as RagTokenizer wants them.

    Raises:
        ModelError: transformers' classes cannot express this model.
        StorageError: the disk is full or the place may not be written.
    """
    encoder = model.question_encoder.backbone
    if not isinstance(encoder, DPRQuestionEncoder):
        raise ModelError(
            f"{model.question_encoder.name}: transformers' RAG classes take DPR question encoders only; this model can "
            "be loaded by ragtune alone"
        )
    if model.config.temperature != 1:
        raise ModelError(
            f"temperature {model.config.temperature}: transformers' RAG classes know none; only 1 is exported"
        )
    if model.config.prompt != _HUGGING_FACE_PROMPT:
        raise ModelError(
            f'prompt "{model.config.prompt}": transformers\' RAG classes have "{_HUGGING_FACE_PROMPT}" only'
        )
    if model.config.marginalization == "none":
        raise ModelError("a model that reads its passages in one prompt: transformers' RAG classes know none")
    generator = model.generator
    if not isinstance(generator, Seq2SeqGenerator):
        raise ModelError(
            f"{generator.name}: transformers' RAG classes take encoder-decoders only; a decoder-only generator is "
            "loaded by AutoModelForCausalLM as it is, from generator/ in the model's folder"
        )
    config = HuggingFaceRagConfig.from_question_encoder_generator_configs(
        encoder.config,
        generator.backbone.config,
        n_docs=model.config.n_docs,
        max_combined_length=model.config.max_input_tokens,
        retrieval_vector_size=model.question_encoder.dimension,
        **{
            name: getattr(generator.backbone.config, name, None)
            for name in ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "vocab_size")
        },
    )
    rag_class = RagTokenForGeneration if model.config.marginalization == "token" else RagSequenceForGeneration
    exported = rag_class(config=config, question_encoder=encoder, generator=generator.backbone)
    with atomic_path(folder) as temporary:
        exported.save_pretrained(temporary)
        RagTokenizer(model.question_encoder.tokenizer, generator.tokenizer).save_pretrained(temporary)
