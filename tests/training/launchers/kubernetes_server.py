"""A Kubernetes API server with Kubeflow Trainer, in memory, on loopback: what a TrainJob's launcher asks.

Bodies are checked against the official models. Jobs do what a test's `controller` has them do; `run_nodes` is one that
starts a job's command as processes of this machine, a torchrun per node.
"""

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from kubeflow_trainer_api.models.trainer_v1alpha1_train_job import TrainerV1alpha1TrainJob
from kubeflow_trainer_api.models.trainer_v1alpha1_update_train_job_status_request import (
    TrainerV1alpha1UpdateTrainJobStatusRequest,
)

TRAINER = "/apis/trainer.kubeflow.org/v1alpha1"
RESERVED = {"PET_NNODES", "PET_NPROC_PER_NODE", "PET_NODE_RANK", "PET_MASTER_ADDR", "PET_MASTER_PORT"}
RUNTIME = {
    "metadata": {"name": "torch-distributed", "labels": {"trainer.kubeflow.org/framework": "torch"}},
    "spec": {
        "mlPolicy": {"numNodes": 1, "torch": {}},
        "template": {
            "spec": {
                "replicatedJobs": [
                    {
                        "name": "node",
                        "template": {
                            "metadata": {"labels": {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}},
                            "spec": {"template": {"spec": {"containers": [{"name": "node", "image": "pytorch"}]}}},
                        },
                    }
                ]
            }
        },
    },
}


class RefusalError(Exception):
    """An answer that is a Status, or plain text where the server knows no such path."""

    def __init__(self, status, message, reason="", name=""):
        super().__init__(message)
        self.status, self.reason, self.name = status, reason, name


class KubernetesServer:
    """The server; a context manager.

    Attributes:
        denied: "verb kind" that the service account's role does not allow.
        has_trainer: whether Kubeflow Trainer is installed.
        faults: {"METHOD path's beginning": [(status, body), …]}, taken one by one; status 0 hangs up.
        controller: called with (server, job) in a thread of its own when a job was made.
        jobs, pods, claims, runtimes, own_runtimes, events: objects by name; `logs`, lines of a pod.
        requests: "METHOD path?query" of all that came in; `authorizations`, their headers of that name; `bodies`, of
            the jobs that were made.
    """

    def __init__(self, controller=None):
        self.controller = controller or (lambda server, job: None)
        self.denied, self.has_trainer, self.faults, self.requests, self.bodies = set(), True, {}, [], []
        self.jobs, self.pods, self.claims, self.events, self.logs = {}, {}, {}, {}, {}
        self.runtimes, self.own_runtimes = {"torch-distributed": RUNTIME}, {}
        self.processes, self.authorizations = [], []
        self.lock = threading.RLock()
        handler = type("Handler", (_Handler,), {"cluster": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self.host = f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *exception):
        for process in self.processes:
            process.terminate()
            process.wait()
        self._http.shutdown()
        self._http.server_close()

    # what a controller does

    def condition(self, job, kind, message="", status="True"):
        now = datetime.now(UTC).isoformat()
        told = {"type": kind, "status": status, "message": message, "reason": kind, "lastTransitionTime": now}
        with self.lock:
            job.setdefault("status", {}).setdefault("conditions", []).append(told)

    def pod(self, job, index, state, phase="Running", **status):
        """A pod of node `index`, its container in a state such as {"running": {}}."""
        name = f"{job['metadata']['name']}-node-0-{index}-{len(self.pods):05d}"
        labels = {
            "jobset.sigs.k8s.io/jobset-name": job["metadata"]["name"],
            "jobset.sigs.k8s.io/replicatedjob-name": "node",
            "batch.kubernetes.io/job-completion-index": str(index),
        }
        container = {"name": "node", "image": job["spec"]["trainer"]["image"], "state": state}
        status = {"phase": phase, "containerStatuses": [container] if state else [], **status}
        with self.lock:
            self.pods[name] = {"metadata": {"name": name, "labels": labels}, "spec": {}, "status": status}
            self.logs[name] = []
        return name

    def change(self, pod, state, phase):
        with self.lock:
            self.pods[pod]["status"] |= {"phase": phase}
            self.pods[pod]["status"]["containerStatuses"][0]["state"] = state

    def write(self, pod, text):
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"
        with self.lock:
            self.logs[pod].append(f"{stamp} {text}")

    # what it answers

    def answer(self, method, path, query, body):
        verb = {"GET": "list" if path.endswith("s") else "get", "POST": "create", "DELETE": "delete"}[method]
        if path.startswith("/status/"):
            update = TrainerV1alpha1UpdateTrainJobStatusRequest.from_dict(body)
            self.jobs[path[8:]].setdefault("status", {}).update(update.to_dict())
            return {}
        if path.startswith(TRAINER) and not self.has_trainer:
            raise RefusalError(404, "404 page not found")
        cluster_wide = re.fullmatch(rf"{TRAINER}/clustertrainingruntimes/([^/]+)", path)
        if cluster_wide:
            self._allow(verb, "clustertrainingruntimes")
            return self._named(self.runtimes, "clustertrainingruntimes", cluster_wide[1])
        found = re.fullmatch(r"/(?:api/v1|apis/trainer[^/]+/v1alpha1)/namespaces/team/(\w+)(?:/([^/]+))?(/log)?", path)
        if not found:
            raise RefusalError(404, "404 page not found")
        kind, name, log = found.groups()
        self._allow("get" if name and verb == "list" else verb, kind + ("/log" if log else ""))
        if kind == "trainjobs":
            return self._trainjobs(method, name, body)
        if kind == "pods" and not name:
            job = re.match(r"jobset.sigs.k8s.io/jobset-name=([^,]+),", query["labelSelector"])[1]
            mine = [
                p for p in self.pods.values() if p["metadata"]["labels"].get("jobset.sigs.k8s.io/jobset-name") == job
            ]
            return {"kind": "PodList", "items": mine}
        if kind == "events":
            return {"kind": "EventList", "items": list(self.events.values())}
        held = {"pods": self.pods, "persistentvolumeclaims": self.claims, "trainingruntimes": self.own_runtimes}
        return self._named(held[kind], kind, name)

    def _trainjobs(self, method, name, body):
        if method == "POST":
            job = self._checked(body)
            self.jobs[job["metadata"]["name"]] = job
            self.bodies.append(json.loads(json.dumps(job)))
            threading.Thread(target=self.controller, args=(self, job), daemon=True).start()
            return job
        job = self._named(self.jobs, "trainjobs", name)
        if method == "DELETE":
            assert body["propagationPolicy"] == "Foreground"
            for process in self.processes:
                process.terminate()
            del self.jobs[name]
            for pod in [n for n, p in self.pods.items() if name in p["metadata"]["labels"].values()]:
                del self.pods[pod]
        return job

    def _checked(self, body):
        name = body["metadata"]["name"]
        if TrainerV1alpha1TrainJob.from_dict(body).to_dict() != body:
            raise RefusalError(400, "strict decoding error: unknown field")
        if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name) or len(name) > 63:
            raise RefusalError(422, f'TrainJob "{name}" is invalid: metadata.name', "Invalid", name)
        if name in self.jobs:
            raise RefusalError(409, f'trainjobs "{name}" already exists', "AlreadyExists", name)
        denial = 'admission webhook "validator.trainjob.trainer.kubeflow.org" denied the request: spec.'
        reference = body["spec"]["runtimeRef"]
        held = self.own_runtimes if reference["kind"] == "TrainingRuntime" else self.runtimes
        if reference["name"] not in held:
            raise RefusalError(403, denial + "runtimeRef: Invalid value: must be created before the TrainJob")
        if RESERVED & {variable["name"] for variable in body["spec"]["trainer"].get("env", [])}:
            raise RefusalError(403, denial + "trainer.env: Invalid value: must not have reserved envs")
        for patch in body["spec"].get("runtimePatches", []):
            for step in patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]:
                (container,) = step["template"]["spec"]["template"]["spec"]["containers"]
                if (step["name"], container["name"]) != ("node", "node") or "env" in container:
                    raise RefusalError(403, denial + "runtimePatches: Invalid value")
        return body

    def _allow(self, verb, kind):
        if f"{verb} {kind}" in self.denied:
            user = 'User "system:serviceaccount:team:pipeline-runner"'
            raise RefusalError(403, f'{kind} is forbidden: {user} cannot {verb} resource "{kind}"', "Forbidden")

    def _named(self, held, kind, name):
        if name not in held:
            raise RefusalError(404, f'{kind} "{name}" not found', "NotFound", name)
        return held[name]


class _Handler(BaseHTTPRequestHandler):
    cluster: KubernetesServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        asked = f"{self.command} {parts.path}"
        with self.cluster.lock:
            self.cluster.requests.append(f"{self.command} {self.path}")
            self.cluster.authorizations.append(self.headers.get("Authorization"))
            fault = next((f.pop(0) for start, f in self.cluster.faults.items() if asked.startswith(start) and f), None)
        if fault is not None:
            if fault[0]:
                return self._send(*fault)
            return self._hang_up()
        try:
            with self.cluster.lock:
                answer = json.dumps(self.cluster.answer(self.command, parts.path, query, body))
            if parts.path.endswith("/log"):
                return self._log(parts.path.split("/")[-2], query)
        except RefusalError as refusal:
            details = {"details": {"name": refusal.name}} if refusal.name else {}
            told = {"kind": "Status", "status": "Failure", "message": str(refusal), "reason": refusal.reason, **details}
            text = json.dumps(told | {"code": refusal.status}) if "page not found" not in str(refusal) else str(refusal)
            return self._send(refusal.status, text)
        return self._send(200, answer)

    do_POST = do_DELETE = do_GET  # noqa: N815

    def log_message(self, *arguments):
        pass

    def _hang_up(self):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _log(self, pod, query):
        """Lines from a time on; with follow, until the container has ended."""
        assert query["container"] == "node" and query["timestamps"] == "true"
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        sent = 0
        while True:
            with self.cluster.lock:
                lines = [line for line in self.cluster.logs[pod] if line[:19] >= query.get("sinceTime", "")[:19]]
                ended = pod not in self.cluster.pods or self.cluster.pods[pod]["status"]["phase"] != "Running"
            for line in lines[sent:]:
                if line.endswith("BREAK"):  # the connection to the kubelet breaks off once
                    self.cluster.logs[pod].remove(line)
                    return self._hang_up()
                data = f"{line}\n".encode()
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            sent = len(lines)
            if ended or query.get("follow") != "true":
                self.wfile.write(b"0\r\n\r\n")
                return None
            time.sleep(0.01)

    def _send(self, status, text):
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def run_nodes(prefix=lambda node: [], address="127.0.0.1", port=29555):
    """A controller that runs each node's command as a process, with the variables that Trainer gives torchrun."""

    def controller(server, job):
        trainer = job["spec"]["trainer"]
        followers, nodes = [], []
        for node in range(trainer["numNodes"]):
            pet = {"PET_NNODES": trainer["numNodes"], "PET_NPROC_PER_NODE": trainer["numProcPerNode"]}
            pet |= {"PET_NODE_RANK": node, "PET_MASTER_ADDR": address, "PET_MASTER_PORT": port}
            env = {each["name"]: each["value"] for each in trainer["env"] if "value" in each}
            env |= {name: str(value) for name, value in pet.items()}
            env |= {"KUBEFLOW_TRAINER_SERVER_URL": f"{server.host}/status/{job['metadata']['name']}"}
            command = [*prefix(node), sys.executable, *trainer["command"][1:], *trainer["args"]]
            process = subprocess.Popen(
                command, env=os.environ | env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            server.processes.append(process)
            pod = server.pod(job, node, {"running": {}})
            nodes.append((process, pod))
            followers.append(threading.Thread(target=_copy, args=(server, process, pod), daemon=True))
            followers[-1].start()
        for (process, pod), follower in zip(nodes, followers, strict=True):
            follower.join()
            code = process.wait()
            ended = {"terminated": {"exitCode": code, "reason": "Error" if code else "Completed"}}
            server.change(pod, ended, "Failed" if code else "Succeeded")
        failed = any(process.returncode for process, _ in nodes)
        server.condition(job, "Failed" if failed else "Complete", "jobset failed" if failed else "")

    return controller


def _copy(server, process, pod):
    for line in process.stdout:
        server.write(pod, line.rstrip())
