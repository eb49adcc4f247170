"""A KFP API server in memory, on loopback: the paths, answers and refusals of the real one that ragtune relies on.

Bodies are checked against the models of `kfp_server_api`, specs against KFP's protocol buffer, parameters against the
spec. Runs move only as a test says: `play` gives the states that the next looks see.
"""

import json
import re
import ssl
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import kfp_rules as rules
from kfp_rules import RefusalError


class KfpServer:
    """The server; a context manager.

    Attributes:
        multi_user, namespaces: whether KFP has users, and which namespaces are this one's.
        token, cookie: what a request has to bring, "" for nothing.
        faults: {"METHOD path's beginning": (status, body)}, in place of the real answer; status 0 hangs.
        logs: of pods, by name.
        requests: "METHOD path?query" of all that came in.
    """

    def __init__(self, multi_user=False, namespaces=("mine",), token="", cookie="", certificate=None):
        self.multi_user, self.namespaces, self.token, self.cookie = multi_user, namespaces, token, cookie
        self.faults, self.logs, self.requests, self.headers = {}, {}, [], []
        self.pipelines, self.versions, self.experiments, self.runs, self.schedules = {}, {}, {}, {}, {}
        self.frames = {}
        self.released = threading.Event()
        self._moment = datetime(2026, 11, 21, tzinfo=UTC)
        handler = type("Handler", (_Handler,), {"kfp": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        scheme = "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
            scheme = "https"
        self.host = f"{scheme}://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *exception):
        self.released.set()
        self._http.shutdown()
        self._http.server_close()

    def play(self, *frames):
        """Set what the next looks at any run see: (state, {box: state}, …); the last one stays."""
        self.frames["all"] = list(frames)

    def now(self):
        self._moment += timedelta(seconds=1)
        return self._moment.isoformat().replace("+00:00", "Z")

    # what it does, by path

    def answer(self, method, path, query, body, files):
        one = {name: values[0] for name, values in query.items()}
        if path == "/apis/v2beta1/healthz":
            return {
                "commit_sha": "unknown",
                "tag_name": "2.17.3",
                "multi_user": self.multi_user,
                "pipeline_store": "database",
            }
        if match := re.fullmatch(r"/apis/v1alpha1/runs/([^/]+)/nodes/([^/]+)/log", path):
            self._get(self.runs, match[1], "run")
            if match[2] not in self.logs:
                raise RefusalError(500, f"pods {match[2]!r} not found")
            return self.logs[match[2]]
        match = re.fullmatch(r"/apis/v2beta1/(\w+)(.*)", path)
        if not match or not hasattr(self, f"_{match[1]}"):
            raise RefusalError(404, "Not Found")
        return getattr(self, f"_{match[1]}")(method, match[2], one, body, files)

    def _pipelines(self, method, rest, query, body, files):
        if (method, rest) == ("POST", "/upload"):
            namespace = self._namespace(query.get("namespace", ""), shared=True)
            name = query.get("name") or query.get("display_name")
            rules.check_length("Pipeline.Name", name, 128)
            if any(one["name"] == name and one.get("namespace", "") == namespace for one in self.pipelines.values()):
                raise RefusalError(409, "Failed to create a pipeline and a pipeline version")
            pipeline = {"pipeline_id": rules.new_id(), "name": name, "display_name": name, "created_at": self.now()}
            spec = rules.parse_spec(files)
            self.pipelines[pipeline["pipeline_id"]] = pipeline | ({"namespace": namespace} if namespace else {})
            self._add_version(pipeline["pipeline_id"], name, spec)
            return self.pipelines[pipeline["pipeline_id"]]
        if (method, rest) == ("POST", "/upload_version"):
            pipeline = self._get(self.pipelines, query["pipelineid"], "pipeline")
            rules.check_length("PipelineVersion.Name", query["name"], 127)
            if any(one["name"] == query["name"] for one in self._versions_of(pipeline["pipeline_id"])):
                raise RefusalError(409, "Failed to create a pipeline version")
            return self._add_version(pipeline["pipeline_id"], query["name"], rules.parse_spec(files))
        if method == "GET" and rest.startswith("/names/"):
            namespace = self._namespace(query.get("namespace", ""), shared=True)
            for one in self.pipelines.values():
                if one["name"] == unquote(rest[7:]) and one.get("namespace", "") == namespace:
                    return one
            raise RefusalError(404, f"Pipeline {rest[7:]} not found")
        if method == "GET" and (match := re.fullmatch(r"/([^/]+)/versions", rest)):
            self._get(self.pipelines, match[1], "pipeline")
            return rules.page_of("pipeline_versions", self._versions_of(match[1]), query)
        raise RefusalError(404, "Not Found")

    def _add_version(self, pipeline_id, name, spec):
        version = {
            "pipeline_id": pipeline_id,
            "pipeline_version_id": rules.new_id(),
            "name": name,
            "display_name": name,
        }
        version |= {"created_at": self.now(), "pipeline_spec": spec}
        self.versions[version["pipeline_version_id"]] = version
        return version

    def _versions_of(self, pipeline_id):
        return [one for one in self.versions.values() if one["pipeline_id"] == pipeline_id]

    def _experiments(self, method, rest, query, body, files):
        if method == "POST" and not rest:
            rules.check_model("V2beta1Experiment", body)
            namespace = self._namespace(body.get("namespace", ""))
            rules.check_length("Experiment.Name", body.get("display_name"), 128)
            same = [one for one in self.experiments.values() if one["display_name"] == body["display_name"]]
            if any(one.get("namespace", "") == namespace for one in same):
                raise RefusalError(409, f"Already exist error: the name {body['display_name']} already exists")
            made = {"experiment_id": rules.new_id(), "created_at": self.now(), "storage_state": "AVAILABLE", **body}
            self.experiments[made["experiment_id"]] = made
            return made
        if method == "GET" and not rest:
            namespace = self._namespace(query.get("namespace", ""))
            return rules.page_of("experiments", self._in(self.experiments, namespace), query)
        raise RefusalError(404, "Not Found")

    def _runs(self, method, rest, query, body, files):
        if method == "POST" and not rest:
            rules.check_model("V2beta1Run", body)
            experiment = self._usable_experiment(body, "run")
            self._check_parameters(body)
            made = {
                "run_id": rules.new_id(),
                "created_at": self.now(),
                "state": "PENDING",
                "storage_state": "AVAILABLE",
                **body,
            }
            made["finished_at"] = "1970-01-01T00:00:00Z"
            self.runs[made["run_id"]] = made | {"namespace": experiment.get("namespace", "")}
            return self._shown(made)
        if method == "GET" and not rest:
            if "experiment_id" in query:
                found = [one for one in self.runs.values() if one["experiment_id"] == query["experiment_id"]]
            else:
                found = self._in(self.runs, self._namespace(query.get("namespace", "")))
            return rules.page_of("runs", [self._shown(one) for one in found], query)
        run_id, _, verb = rest[1:].partition(":")
        run = self._get(self.runs, run_id, "run")
        if method == "POST" and verb == "terminate":
            if run["state"] not in ("PENDING", "RUNNING"):
                raise RefusalError(400, "Failed to terminate a run: only active runs can be terminated")
            run["state"] = "CANCELING"
            self.play(("CANCELING", {}), ("CANCELED", {}))
            return {}
        if method == "GET" and not verb:
            frames = self.frames.get("all")
            if frames:
                run["state"], rows, *_ = frames.pop(0) if len(frames) > 1 else frames[0]
                run["run_details"] = {"task_details": [rules.task_row(*row) for row in rows.items()]}
            return self._shown(run)
        raise RefusalError(404, "Not Found")

    def _recurringruns(self, method, rest, query, body, files):
        if method == "POST" and not rest:
            rules.check_model("V2beta1RecurringRun", body)
            self._usable_experiment(body, "recurring run")
            self._check_parameters(body)
            if not 1 <= int(body.get("max_concurrency", 0)) <= 10:
                raise RefusalError(400, "Max concurrency of a recurring run must be at least 1 and at most 10")
            rules.check_trigger(body.get("trigger") or {})
            made = {"recurring_run_id": rules.new_id(), "created_at": self.now(), **body}
            made["status"] = "ENABLED" if body.get("mode") == "ENABLE" else "DISABLED"
            self.schedules[made["recurring_run_id"]] = made
            return made
        if method == "GET" and not rest:
            found = self._in(self.schedules, self._namespace(query.get("namespace", "")))
            return rules.page_of("recurringRuns", found, query)
        schedule_id, _, verb = rest[1:].partition(":")
        one = self._get(self.schedules, schedule_id, "recurring run")
        if method == "POST" and verb in ("enable", "disable"):
            one["status"] = f"{verb.upper()}D"
            return {}
        if method == "DELETE":
            del self.schedules[schedule_id]
            return {}
        raise RefusalError(404, "Not Found")

    def _shown(self, run):
        return {name: value for name, value in run.items() if name != "namespace"}

    def _usable_experiment(self, body, kind):
        if not body.get("display_name"):
            raise RefusalError(400, f"The {kind}'s name is empty. Please specify a valid name")
        experiment = self._get(self.experiments, body.get("experiment_id", ""), "experiment")
        if experiment["storage_state"] == "ARCHIVED":
            raise RefusalError(400, f"Failed to create a {kind}: the experiment is archived")
        self._namespace(experiment.get("namespace", ""))
        return experiment

    def _check_parameters(self, body):
        reference = body["pipeline_version_reference"]
        if "pipeline_version_id" in reference:
            version = self._get(self.versions, reference["pipeline_version_id"], "pipeline version")
        else:
            version = max(self._versions_of(reference["pipeline_id"]), key=lambda one: one["created_at"])
        spec = version["pipeline_spec"].get("pipeline_spec", version["pipeline_spec"])
        rules.check_parameters(spec, body.get("runtime_config", {}).get("parameters", {}))

    def _namespace(self, namespace, shared=False):
        if not self.multi_user:
            if namespace:
                raise RefusalError(400, "In single-user mode, the request shouldn't contain a namespace")
            return ""
        if not namespace and not shared:
            raise RefusalError(400, "Namespace cannot be empty in multi-user mode")
        if namespace and namespace not in self.namespaces:
            raise RefusalError(403, f"User 'me@example.org' is not authorized with reason: (namespace {namespace})")
        return namespace

    def _in(self, things, namespace):
        return [one for one in things.values() if one.get("namespace", "") == namespace]

    def _get(self, things, name, kind):
        if name not in things:
            raise RefusalError(404, f"{kind} {name} not found")
        return things[name]


class _Handler(BaseHTTPRequestHandler):
    kfp: KfpServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # its 40 ms a request would be most of these tests' time

    def do_GET(self):
        self._serve()

    do_POST = do_DELETE = do_GET  # noqa: N815

    def log_message(self, *arguments):
        pass

    def _serve(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.kfp.requests.append(f"{self.command} {self.path}")
        self.kfp.headers.append({name.lower(): value for name, value in self.headers.items()})
        parts = urlsplit(self.path)
        for start, (status, text) in self.kfp.faults.items():
            if f"{self.command} {parts.path}".startswith(start):
                if not status:
                    self.kfp.released.wait(10)
                return self._send(status or 503, text, "application/json")
        if self.kfp.token and self.headers.get("Authorization") != f"Bearer {self.kfp.token}":
            return self._send(
                401, json.dumps({"code": 16, "message": "Request header error: Unauthenticated", "details": []})
            )
        if self.kfp.cookie and self.headers.get("Cookie") != self.kfp.cookie:
            self.send_response(302)
            self.send_header("Location", "/dex/auth")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        uploading = parts.path.startswith("/apis/v2beta1/pipelines/upload")
        try:
            files = rules.parse_files(self.headers["Content-Type"], body) if uploading else {}
            content = json.loads(body) if body and not uploading else {}
            query = parse_qs(parts.query)
            answer = self.kfp.answer(self.command, parts.path, query, content, files)
        except RefusalError as refusal:
            told = {"error_message": str(refusal), "error_details": str(refusal)}
            if not uploading and "v1alpha1" not in parts.path:
                told = {"code": 3, "message": str(refusal), "details": []}
            return self._send(refusal.status, json.dumps(told))
        if isinstance(answer, str):
            return self._send(200, answer, "text/plain")
        return self._send(200, json.dumps(answer))

    def _send(self, status, text, kind="application/json"):
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Set-Cookie", "session=of-the-server")
        self.end_headers()
        self.wfile.write(data)
