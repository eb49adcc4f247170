import contextlib
import dataclasses
import json
import logging
import os
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

import pytest

pytest.importorskip("model_registry")

from ragtune.errors import RegistryError
from ragtune.registry import kubeflow
from ragtune.registry.kubeflow import register_in_kubeflow
from ragtune.registry.mlflow import Registration
from ragtune.registry.servable import Serving

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
        self.token = ""  # "" lets everybody in
        self.fails = {}  # status by method and first part of the path
        self.hangs = threading.Event()  # until it is set
        self.hangs.set()
        self.seen = []  # of every change, the names of the versions that are champion then
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    def parse_request(self):
        """As the real one's proxy, that looks at the token first; then what the test wants to go wrong."""
        if not super().parse_request():
            return False
        self.server.hangs.wait(20)
        status = self.server.fails.get((self.command, self._path()[0]))
        if self.server.token and self.headers["Authorization"] != f"Bearer {self.server.token}":
            status = 401
        if status:
            self._answer(status, {"code": str(status), "message": "because"})
        return not status

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
                self._create(self.server.models, mr_openapi.RegisteredModelCreate, unique=("name",))
            case ["model_versions"]:
                unique = ("name", "registeredModelId")
                self._create(self.server.versions, mr_openapi.ModelVersionCreate, unique=unique)
            case ["model_versions", parent, "artifacts"] if not self.server.refuse_artifacts:
                self._create(self.server.artifacts, mr_openapi.ModelArtifact, versionId=parent)
            case _:
                self._answer(503, {"code": "503", "message": "try later"})
        self._see()

    def do_PATCH(self):
        import mr_openapi

        match self._path():
            case ["registered_models", number] if number in self.server.models:
                self._update(self.server.models[number], mr_openapi.RegisteredModelUpdate)
            case ["model_versions", number] if number in self.server.versions:
                self._update(self.server.versions[number], mr_openapi.ModelVersionUpdate)
            case ["model_artifacts", number] if number in self.server.artifacts:
                self._update(self.server.artifacts[number], mr_openapi.ModelArtifactUpdate)
            case _:
                self._answer(404, {"code": "404", "message": "none"})
        self._see()

    def _see(self):
        versions = self.server.versions.values()
        self.server.seen.append([row["name"] for row in versions if properties(row)["champion"]])

    def _create(self, rows, schema, unique=(), **more):
        body = self._body(schema)
        if unique and any(all(row[field] == body[field] for field in unique) for row in rows.values()):
            return self._answer(409, {"code": "409", "message": "already exists"})
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
def server(monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", os.devnull)  # the client reads all certificates again for each request
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


def test_the_champion_changes_from_one_whole_version_to_the_next(server):
    register_in_kubeflow(FIRST, server.url)
    server.seen.clear()
    register_in_kubeflow(SECOND, server.url)
    first, second = "1-a1b2c3d4", "2-b2c3d4e5"
    distinct = [names for n, names in enumerate(server.seen) if names not in server.seen[:n]]
    assert distinct == [[first], [first, second], [second]]  # the first of them while version and artifact are made


def test_a_version_cut_short_before_it_is_champion_becomes_it_again_by_the_next_try(server):
    register_in_kubeflow(FIRST, server.url)
    server.fails["PATCH", "registered_models"] = 500
    with pytest.raises(RegistryError, match=r"refused with 500.*; look at the registry's own log, and run again"):
        register_in_kubeflow(SECOND, server.url)
    assert properties(server.models["1"])["champion"] == "1-a1b2c3d4"
    assert properties(server.versions["1"])["champion"] is True
    server.fails.clear()
    register_in_kubeflow(SECOND, server.url)
    assert [properties(row)["champion"] for row in server.versions.values()] == [False, True]


def test_a_model_on_the_claim_or_in_the_object_store_is_told_as_kserve_fetches_it(server, capsys):
    serving = Serving("minio://mlpipeline/v2/model", "/workspace", "claim", "bucket", "server")
    kept = dataclasses.replace(FIRST, model_uri="file:///workspace/models/countries/0a1b")
    register_in_kubeflow(kept, server.url, serving)
    (artifact,) = server.artifacts.values()
    assert artifact["uri"] == "pvc://claim/models/countries/0a1b"
    assert (artifact["storageKey"], artifact["serviceAccountName"]) == ("bucket", "server")
    assert properties(server.versions["1"])["servable"] is True
    register_in_kubeflow(kept, server.url, dataclasses.replace(serving, claim=""))  # another run knows better
    assert [row["uri"] for row in server.artifacts.values()] == ["s3://mlpipeline/v2/model"]
    assert "KServe cannot fetch" not in capsys.readouterr().err


def test_a_model_that_kserve_cannot_fetch_is_registered_and_said_to_be_such(server, capsys):
    register_in_kubeflow(dataclasses.replace(FIRST, model_uri="mlflow-artifacts:/0/model"), server.url)
    assert properties(server.versions["1"])["servable"] is False
    assert "mlflow-artifacts:/0/model: KServe cannot fetch this model" in capsys.readouterr().err


def test_a_version_that_another_registration_makes_at_the_same_moment_is_taken(server, monkeypatch):
    """The other one comes between the question and the creation."""
    find, asked = kubeflow._find_version, []

    def found_too_late(registry, name, version):
        asked.append(version)
        if len(asked) == 1:
            with monkeypatch.context() as other:
                other.setattr(kubeflow, "_find_version", find)
                register_in_kubeflow(FIRST, server.url)
            return None
        return find(registry, name, version)

    monkeypatch.setattr(kubeflow, "_find_version", found_too_late)
    assert register_in_kubeflow(FIRST, server.url) == "1-a1b2c3d4"
    assert len(server.models) == len(server.versions) == len(server.artifacts) == 1


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (401, "is the token expired.*KF_PIPELINES_SA_TOKEN_PATH"),
        (403, "may its service account use the registry"),
        (404, "is this the URL of a Kubeflow Model Registry"),
        (409, "another registration was at it; run again"),
        (500, "look at the registry's own log"),
    ],
)
def test_a_refusal_is_told_with_its_remedy(server, status, told):
    server.fails["POST", "registered_models"] = status
    with pytest.raises(RegistryError, match=f"{server.url}: refused with {status} .*because.*; {told}"):
        register_in_kubeflow(FIRST, server.url)


def test_the_token_is_read_from_its_file_and_an_expired_one_is_named(server, monkeypatch, tmp_path):
    file = tmp_path / "token"
    file.write_text("today")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(file))
    server.token = "today"
    register_in_kubeflow(FIRST, server.url)
    file.write_text("yesterday")
    with pytest.raises(RegistryError, match=r"refused with 401 .*is the token expired"):
        register_in_kubeflow(FIRST, server.url)


def test_a_server_that_hangs_is_an_error_within_a_bounded_time(server, monkeypatch):
    monkeypatch.setattr(kubeflow, "_ANSWER_WITHIN_SECONDS", 0.3)
    monkeypatch.setattr(kubeflow, "_PAUSE_SECONDS", 0.0)
    server.hangs.clear()
    start = time.monotonic()
    with pytest.raises(RegistryError, match="cannot be reached: no answer within"):
        register_in_kubeflow(FIRST, server.url)
    assert time.monotonic() - start < 10
    server.hangs.set()


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
