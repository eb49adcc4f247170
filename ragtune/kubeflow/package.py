"""The compiled pipeline on a KFP server: uploaded as a new version where its content is new."""

import contextlib
import hashlib
import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml
from google.protobuf.json_format import ParseDict, ParseError
from kfp import compiler
from kfp.dsl.graph_component import GraphComponent
from kfp.pipeline_spec import pipeline_spec_pb2

from ragtune.errors import ParameterError
from ragtune.kubeflow.connection import Connection, named
from ragtune.kubeflow.failures import RefusedError
from ragtune.kubeflow.images import set_images

_SCHEMA = "2.1.0"  # of pipeline specs that KFP 2 runs
_WAY_OUT = "give what `python pipeline.py compile` writes"
_DIGEST_LETTERS = 12
_COMPARED = 20  # newest versions whose content is compared; an older one is found by the digest in its name


def compiled_text(pipeline: GraphComponent, images: Mapping[str, Any] = MappingProxyType({})) -> str:
    """A pipeline's YAML, with other images where `set_images` is given some."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(target))
        return set_images(target.read_text(encoding="utf-8"), **images)


@dataclass(frozen=True)
class Package:
    """A compiled pipeline.

    Attributes:
        text: its YAML.
        spec: the same as the API has it: the pipeline's spec, under `pipeline_spec` where platforms have one too.
    """

    text: str
    spec: dict[str, Any]

    @classmethod
    def compile(cls, pipeline: GraphComponent, images: Mapping[str, Any] = MappingProxyType({})) -> "Package":
        """Compile a pipeline, with other images where `set_images` is given some."""
        return cls._parse(compiled_text(pipeline, images), "the pipeline")

    @classmethod
    def read(cls, path: str | Path) -> "Package":
        """Read what `python pipeline.py compile` wrote.

        Raises:
            ParameterError: no such file, or no compiled pipeline.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except OSError as error:
            raise ParameterError(f"{path}: cannot be read ({error.strerror}); {_WAY_OUT}") from None
        except UnicodeDecodeError:
            raise ParameterError(f"{path}: is no text; {_WAY_OUT}") from None
        return cls._parse(text, path)

    @classmethod
    def _parse(cls, text: str, path: str | Path) -> "Package":
        try:
            documents = [document for document in yaml.safe_load_all(text) if document]
        except yaml.YAMLError as error:
            raise ParameterError(f"{path}: not YAML ({' '.join(str(error).split())}); {_WAY_OUT}") from None
        known = len(documents) in (1, 2) and all(isinstance(document, dict) for document in documents)
        if not known or documents[0].get("schemaVersion") != _SCHEMA:
            raise ParameterError(
                f"{path}: no pipeline of schema {_SCHEMA}; give what `python pipeline.py compile` wrote"
            )
        both = {"pipeline_spec": documents[0], "platform_spec": documents[1]} if len(documents) == 2 else documents[0]
        return cls(text, both)

    @property
    def pipeline(self) -> dict[str, Any]:
        return self.spec.get("pipeline_spec", self.spec)

    @property
    def name(self) -> str:
        return self.pipeline["pipelineInfo"]["name"]

    @property
    def parameters(self) -> set[str]:
        """Names of the parameters that a run may be given."""
        return set(self.pipeline["root"].get("inputDefinitions", {}).get("parameters", {}))

    @property
    def digest(self) -> str:
        """Of the content, whatever the order of its lines: 64 hex digits."""
        return hashlib.sha256(json.dumps(self.spec, sort_keys=True).encode()).hexdigest()

    def boxes(self) -> list[str]:
        """Names of the tasks that run a container, also inside conditions, loops and exit handlers."""
        components = self.pipeline["components"]
        dags = [self.pipeline["root"]["dag"], *(part["dag"] for part in components.values() if "dag" in part)]
        tasks = [task for dag in dags for task in dag["tasks"].items()]
        return [name for name, task in tasks if "executorLabel" in components[task["componentRef"]["name"]]]


@dataclass(frozen=True)
class Version:
    """A version of a pipeline on the server.

    Attributes:
        uploaded: whether it was new, and so was uploaded now.
    """

    pipeline_id: str
    version_id: str
    name: str
    uploaded: bool


def upload(connection: Connection, package: Package, newest: bool = False) -> Version:
    """Find the version that has the package's content, or upload it.

    Args:
        connection: where to.
        package: what.
        newest: whether it has to be the newest version, which is the one that a schedule of no fixed version runs.

    Raises:
        ClusterError: the server refuses, or does not answer.
    """
    pipeline_id, uploaded = _pipeline(connection, package)
    versions, content = _versions(connection, pipeline_id), _content(package.spec)
    name = f"{package.name}-{package.digest[:_DIGEST_LETTERS]}"
    for version in versions[:1] if newest else versions:
        if version.display_name.startswith(name) or _content(version.pipeline_spec) == content:
            return Version(pipeline_id, version.pipeline_version_id, version.display_name, uploaded)
    if newest and any(version.display_name == name for version in versions):
        name += time.strftime("-%Y%m%d%H%M%S")  # the same content again, behind others: it has to be the newest
    doing, call = f"uploading the version {name}", connection.uploads.upload_pipeline_version
    try:
        with _file(package) as path:
            version = connection.call(doing, call, path, name=name, display_name=name, pipelineid=pipeline_id)
    except RefusedError as error:
        older = [] if newest or error.status != 409 else _versions(connection, pipeline_id, name)
        if not older:
            raise
        return Version(pipeline_id, older[0].pipeline_version_id, name, False)
    return Version(pipeline_id, version.pipeline_version_id, name, True)


def pipeline_id_of(connection: Connection, name: str) -> str | None:
    """The id of a pipeline in the connection's namespace, None where there is none of that name."""
    places = {"namespace": connection.namespace} if connection.namespace else {}
    call = connection.pipelines.pipeline_service_get_pipeline_by_name
    try:
        return connection.call(f"looking for the pipeline {name}", call, name, **places).pipeline_id
    except RefusedError as error:
        if error.status == 404:
            return None
        raise


def _pipeline(connection: Connection, package: Package) -> tuple[str, bool]:
    """Its id, and whether it was uploaded just now, which makes its first version too."""
    found = pipeline_id_of(connection, package.name)
    if found:
        return found, False
    places = {"namespace": connection.namespace} if connection.namespace else {}
    doing, call = f"uploading the pipeline {package.name}", connection.uploads.upload_pipeline
    try:
        with _file(package) as path:
            made = connection.call(doing, call, path, name=package.name, display_name=package.name, **places)
    except RefusedError as error:
        found = pipeline_id_of(connection, package.name) if error.status == 409 else None
        if found is None:
            raise
        return found, False  # another client was quicker
    return made.pipeline_id, True


def _versions(connection: Connection, pipeline_id: str, name: str = "") -> list[Any]:
    call = connection.pipelines.pipeline_service_list_pipeline_versions
    options = {"filter": named(name)} if name else {"page_size": _COMPARED, "sort_by": "created_at desc"}
    return connection.call("listing the pipeline's versions", call, pipeline_id, **options).pipeline_versions or []


def _content(spec: Mapping[str, Any] | None) -> list[Any]:
    """A spec as KFP's protocol buffers, since the server leaves out what is empty; [] for what is none."""
    both = (spec or {}).get("pipeline_spec", spec or {}), (spec or {}).get("platform_spec", {})
    kinds = pipeline_spec_pb2.PipelineSpec, pipeline_spec_pb2.PlatformSpec
    try:
        return [ParseDict(part, kind(), ignore_unknown_fields=True) for part, kind in zip(both, kinds, strict=True)]
    except ParseError:  # a version of KFP 1, which somebody uploaded under this name
        return []


@contextlib.contextmanager
def _file(package: Package) -> Iterator[str]:
    """A file with the package's text, as the API's client uploads files alone."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        path.write_text(package.text, encoding="utf-8")
        yield str(path)
