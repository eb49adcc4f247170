import contextlib
import dataclasses
import json
import logging
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

import pytest

pytest.importorskip("model_registry")

from ragtune.errors import RegistryError
from ragtune.registry.kubeflow import register_in_kubeflow
from ragtune.registry.mlflow import Registration

FACTS = {"metrics": {"em_after": 0.72, "recall@5_after": 0.9}, "lineage": {"knowledge_base.version": "kb_v1"}}
FIRST = Registration("countries", 1, True, "better than its base", "a1b2c3d4e5f6", "s3://models/1", **FACTS)
SECOND = Registration("countries", 2, True, "better", "b2c3d4e5f6a1", "s3://models/2", **FACTS)


class ModelRegistryServer(ThreadingHTTPServer):
    """Speaks the part of the Model Registry's REST API, v1, that registration needs; every body is checked against the
    schema by the generated client's own models."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.models, self.versions, self.artifacts = {}, {}, {}
        self.refuse_artifacts = False
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        match self._path():
            case ["registered_models"]:
                self._answer(200, _page(self.server.models.values()))
            case ["registered_model"]:
                self._find(self.server.models, name=self._query("name"))
            case ["model_version"]:
                parent = self._query("parentResourceId")
                self._find(self.server.versions, name=self._query("name"), registeredModelId=parent)
            case ["registered_models", parent, "versions"]:
                rows = [row for row in self.server.versions.values() if row["registeredModelId"] == parent]
                self._answer(200, _page(rows))
            case ["model_artifact"]:
                parent = self._query("parentResourceId")
                self._find(self.server.artifacts, name=self._query("name"), versionId=parent)
            case _:
                self._answer(404, {"code": "404", "message": self.path})

    def do_POST(self):
        import mr_openapi

        match self._path():
            case ["registered_models"]:
                self._create(self.server.models, mr_openapi.RegisteredModelCreate)
            case ["model_versions"]:
                self._create(self.server.versions, mr_openapi.ModelVersionCreate)
            case ["model_versions", parent, "artifacts"] if not self.server.refuse_artifacts:
                self._create(self.server.artifacts, mr_openapi.ModelArtifact, versionId=parent)
            case _:
                self._answer(503, {"code": "503", "message": "try later"})

    def do_PATCH(self):
        import mr_openapi

        match self._path():
            case ["registered_models", number]:
                self._update(self.server.models[number], mr_openapi.RegisteredModelUpdate)
            case ["model_versions", number]:
                self._update(self.server.versions[number], mr_openapi.ModelVersionUpdate)

    def _create(self, rows, schema, **more):
        body = self._body(schema)
        row = body | more | {"id": str(len(rows) + 1)}
        rows[row["id"]] = row
        self._answer(201, row)

    def _update(self, row, schema):
        row.update(self._body(schema))
        self._answer(200, row)

    def _find(self, rows, **wanted):
        found = [row for row in rows.values() if all(row[name] == value for name, value in wanted.items())]
        self._answer(200, found[0]) if found else self._answer(404, {"code": "404", "message": "none"})

    def _body(self, schema):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert schema.from_dict(body).to_dict() == body
        return body

    def _path(self):
        return urlparse(self.path).path.removeprefix("/api/model_registry/v1/").split("/")

    def _query(self, name):
        return parse_qs(urlparse(self.path).query)[name][0]

    def _answer(self, status, body):
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


def _page(rows):
    return {"items": list(rows), "size": len(list(rows)), "pageSize": 100, "nextPageToken": ""}


@pytest.fixture
def server():
    with ModelRegistryServer() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def properties(row):
    return {
        name: next(iter(v for k, v in value.items() if k != "metadataType"))
        for name, value in row["customProperties"].items()
    }


def test_a_version_carries_its_place_figures_and_lineage(server):
    assert register_in_kubeflow(FIRST, server.url) == "1-a1b2c3d4"
    (version,) = server.versions.values()
    (artifact,) = server.artifacts.values()
    assert version["name"] == "1-a1b2c3d4"
    held = properties(version)
    assert (held["em_after"], held["recall@5_after"], held["knowledge_base.version"]) == (0.72, 0.9, "kb_v1")
    assert held["champion"] is True and held["promotion_reason"] == "better than its base"
    assert (artifact["uri"], artifact["modelFormatName"], artifact["versionId"]) == ("s3://models/1", "ragtune", "1")


def test_one_version_at_most_is_champion(server):
    register_in_kubeflow(FIRST, server.url)
    register_in_kubeflow(SECOND, server.url)
    register_in_kubeflow(dataclasses.replace(SECOND, version=3, promoted=False), server.url)
    assert [properties(row)["champion"] for row in server.versions.values()] == [False, True, False]
    assert properties(server.models["1"])["champion"] == "2-b2c3d4e5"


def test_registering_twice_changes_nothing(server):
    register_in_kubeflow(FIRST, server.url)
    before = json.dumps([server.models, server.versions, server.artifacts])
    register_in_kubeflow(FIRST, server.url)
    assert json.dumps([server.models, server.versions, server.artifacts]) == before


def test_a_version_cut_short_before_its_artifact_is_completed(server):
    server.refuse_artifacts = True
    with pytest.raises(RegistryError, match="refused with 503"):
        register_in_kubeflow(FIRST, server.url)
    assert len(server.versions) == 1 and not server.artifacts
    server.refuse_artifacts = False
    register_in_kubeflow(FIRST, server.url)
    assert len(server.versions) == len(server.artifacts) == 1


def test_a_registry_out_of_reach_is_an_error_within_seconds():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    start = time.monotonic()
    with pytest.raises(RegistryError, match="cannot be reached"):
        register_in_kubeflow(FIRST, url)
    assert time.monotonic() - start < 15


def test_a_server_that_hangs_up_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_hang_up_on_everyone, args=[listener], daemon=True).start()
        with pytest.raises(RegistryError, match="cannot be reached"):
            register_in_kubeflow(FIRST, f"http://127.0.0.1:{listener.getsockname()[1]}")


def _hang_up_on_everyone(listener):
    with contextlib.suppress(OSError):  # until the listener is closed
        while True:
            listener.accept()[0].close()


@pytest.mark.parametrize("url", ["registry:8080", "", "http://host/some/path"])
def test_an_address_of_no_use_is_an_error(url):
    with pytest.raises(RegistryError, match=r"give http\(s\)://host"):
        register_in_kubeflow(FIRST, url)


def test_the_client_does_not_configure_our_logging(server):
    before = list(logging.root.handlers)
    register_in_kubeflow(FIRST, server.url)
    assert logging.root.handlers == before
