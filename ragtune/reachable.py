"""Sources, models, Milvus and registries asked whether they are there, before anything costs money; without torch."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from transformers.utils.hub import extract_commit_hash

from ragtune.errors import ModelError, RegistryError, StorageError, UnavailableError
from ragtune.files import content_hash, open_uri
from ragtune.hub import (
    check_positions,
    find_file,
    generator_config,
    generator_family,
    load_tokenizer,
    read_json,
    split_revision,
)
from ragtune.knowledge.address import wait_until_listening
from ragtune.knowledge.claims import check_free
from ragtune.questions.hub_dataset import HubDataset
from ragtune.ray_cluster import check_address, given_address
from ragtune.reading import files_of, readable
from ragtune.registry.connection import connected, is_server
from ragtune.settings.pipeline import REFUSE

_ANSWER_WITHIN_SECONDS = 10.0
_SOURCES = ("questions", "corpus", "validation_questions", "test_questions")
_DPR_CLASSES = {"question": "DPRQuestionEncoder", "passage": "DPRContextEncoder"}


def check_reachable(values: Mapping[str, Any]) -> None:
    """Refuse what is not there, or not what it should be, at the price of a few small requests.

    Args:
        values: of all parameters of the pipeline, possible ones.

    Raises:
        StorageError, QuestionError, ModelError, KnowledgeBaseError, ClusterError, RegistryError: the thing, its place,
            the way out.
    """
    for name in _SOURCES:
        if values[name]:
            _check_source(values[name])
    _check_writable(values["workspace"])
    check_models(values["question_encoder"], values["passage_encoder"], values["generator"])
    lengths = (values["max_input_tokens"], values["max_answer_tokens"])
    check_positions(generator_config(values["generator"]), values["generator"], *lengths)
    if values["when_busy"] == REFUSE:
        check_free(Path(values["workspace"]) / "knowledge_bases" / values["knowledge_base"])
    if values["milvus_uri"]:
        wait_until_listening(values["milvus_uri"], _ANSWER_WITHIN_SECONDS)
    if values["embed_on"] == "ray" and (address := given_address()):
        check_address(address)
    if is_server(values["tracking_uri"]):
        with connected(values["tracking_uri"]):
            pass
    if values["model_registry_url"]:
        _check_registry(values["model_registry_url"])


def check_models(question_encoder: str, passage_encoder: str, generator: str) -> None:
    """Refuse a model's parts, folders or names on the hub, that are not there or not what they should be.

    Raises:
        ModelError: the part, its place, the way out.
    """
    _check_encoder(question_encoder, "question")
    _check_encoder(passage_encoder, "passage")
    _check_generator(generator)


def model_fingerprint(name_or_path: str) -> str:
    """Tell which model it is now: the SHA-256 of a folder's files, or a hub repository's name and commit.

    Raises:
        ModelError: there is no such folder or repository, or the hub cannot be reached.
    """
    if Path(name_or_path).is_dir():
        return content_hash(name_or_path)
    path = find_file(name_or_path, "config.json") or find_file(name_or_path, "modules.json")
    if path is None:
        raise ModelError(f"{name_or_path}: neither config.json nor modules.json; is it a model?")
    name, _ = split_revision(name_or_path)
    return f"{name}@{extract_commit_hash(str(path), None)}"


def _check_source(uri: str) -> None:
    """The hub tells a dataset's commit; of files, the first one is opened."""
    dataset = HubDataset.parse(uri)
    if dataset is not None:
        if not dataset.is_local:
            dataset.commit()
        elif not Path(dataset.name).is_dir():
            raise StorageError(f"{uri}: no such folder; check the path")
        return
    file = files_of(uri)[0]
    with readable(file), open_uri(file) as stream:
        stream.read(1)


def _check_writable(workspace: str) -> None:
    place = Path(workspace).absolute()
    try:
        while not place.exists():
            place = place.parent
    except OSError as error:
        raise StorageError(f"workspace {workspace}: {error.strerror}; choose another folder") from error
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise StorageError(f"workspace {workspace}: nothing may be written in {place}; choose another folder")


def _check_encoder(place: str, role: str) -> None:
    if read_json(place, "modules.json") is None:
        config = _config(place)
        if config.get("model_type") != "dpr":
            raise ModelError(
                f"{place}: no encoder. A sentence-transformers folder has modules.json, a DPR one config.json with "
                'model_type "dpr"; this has neither'
            )
        found = config.get("architectures") or [_DPR_CLASSES[role]]
        if _DPR_CLASSES[role] not in found:
            raise ModelError(
                f"{place}: holds {', '.join(found)}, but the {role} encoder must be a {_DPR_CLASSES[role]}: are the "
                "question and the passage encoder swapped?"
            )
    _check_files(place)


def _check_generator(place: str) -> None:
    _config(place)
    generator_family(place)
    _check_files(place)


def _config(place: str) -> dict[str, Any]:
    config = read_json(place, "config.json")
    if not isinstance(config, dict):
        raise ModelError(f"{place}: no config.json; nothing is there, or the hub cannot be reached")
    return config


def _check_files(place: str) -> None:
    """The tokenizer is loaded; of the weights, which may be gigabytes on the hub, those in a local folder are told."""
    load_tokenizer(place)
    folder = Path(place)
    if folder.is_dir() and not any(folder.rglob("*.safetensors")):
        raise ModelError(f"{place}: no weights as *.safetensors there; copy the folder whole, or convert them once")


def _check_registry(url: str) -> None:
    with contextlib.suppress(UnavailableError):
        wait_until_listening(url, _ANSWER_WITHIN_SECONDS, http_port=80)
        return
    raise RegistryError(f"{url}: no Kubeflow Model Registry answers at {urlsplit(url).netloc}; is this its URL?")
