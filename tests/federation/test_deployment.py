"""A federation by Flower's own processes on loopback, by TLS: two SuperNodes, and a SuperLink that is killed once."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from certificates import make_certificates
from real_milvus import free_port

from ragtune.errors import ClusterError
from ragtune.federation.preflight import check_server

ROOT = Path(__file__).parents[2]
PARAMETERS = """
method: federated
method_options:
  {sites: 2, rounds: 2, average: generator, local_method: ralt, strategy_options: {fraction_evaluate: 0.0}}
max_steps: 2
batch_size: 4
n_docs: 3
warmup_steps: 0
retrieval: exact
"""
UP_WITHIN_SECONDS = 120


class Processes:
    """Flower's commands, their logs in a folder; ended with the test."""

    def __init__(self, folder):
        self.folder, self.running = folder, []
        self.environment = os.environ | {
            "FLWR_HOME": str(folder / "flwr"),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        }

    def start(self, name, *command):
        with open(self.folder / f"{name}.log", "w") as log:
            self.running.append(subprocess.Popen(command, env=self.environment, stdout=log, stderr=log))
        return self.running[-1]

    def run(self, name, *command):
        ran = self.start(name, *command)
        assert ran.wait(UP_WITHIN_SECONDS) == 0, self.log(name)

    def log(self, name):
        return (self.folder / f"{name}.log").read_text()

    def end(self):
        for process in reversed(self.running):
            process.terminate()
        for process in self.running:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.fixture
def processes(tmp_path):
    folder = tmp_path / "processes"
    (folder / "flwr").mkdir(parents=True)
    made = Processes(folder)
    yield made
    made.end()


def wait_for(condition, what, seconds=UP_WITHIN_SECONDS):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what()
        time.sleep(0.2)


def is_up(address, ca):
    try:
        check_server(address, ca)
    except ClusterError:
        return False
    return True


@pytest.mark.slow
def test_superlink_and_supernodes_federate_by_tls(sites, base_model, processes, tmp_path):
    ours, theirs = (make_certificates(tmp_path / name) for name in ("ours", "theirs"))
    port, ca = free_port(), str(ours / "ca.crt")
    address = f"127.0.0.1:{port}"
    certificate = [f"--ssl-{name}={ours / file}" for name, file in CERTIFICATES.items()]
    own = ["--host", "127.0.0.1", "--port", str(port), "--disable-runtime-dependency-installation"]
    superlink = ["flower-superlink", *certificate, *own, "--database", str(tmp_path / "link.db")]
    server = processes.start("superlink", *superlink)
    wait_for(lambda: is_up(address, ca), lambda: processes.log("superlink"))
    for site in sites:
        config = {"site": site.name, "dataset": site.dataset, "knowledge-base": site.knowledge_base}
        config |= {"model": site.model, "work": site.work}
        toml = tmp_path / f"{site.name}.toml"
        toml.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in config.items()))
        node = ["flower-supernode", "--superlink", address, "--node-config", str(toml), "--port", str(free_port())]
        processes.start(site.name, *node, "--root-certificates", ca)
    wrong = ["--root-certificates", str(theirs / "ca.crt"), "--max-retries", "0"]
    processes.start("stranger", *node[:-1], str(free_port()), *wrong)
    (tmp_path / "parameters.yaml").write_text(PARAMETERS)
    connection = f'[superlink.test]\naddress = "{address}"\nroot-certificates = "{ca}"\n'
    (processes.folder / "flwr" / "config.toml").write_text(connection)
    settings = {"model": base_model, "parameters": tmp_path / "parameters.yaml", "output": tmp_path / "output"}
    config = " ".join(f'{name}="{value}"' for name, value in settings.items())
    command = ["flwr", "run", str(ROOT / "deploy" / "federation"), "test", "--run-config", config]
    processes.run("run", *command)
    first = tmp_path / "output" / "rounds" / "round-1"
    wait_for(first.is_dir, lambda: processes.log("superlink") + processes.log("site-1"), 300)
    before = json.loads((first / "history.json").read_text())
    whole = [server, *psutil.Process(server.pid).children(recursive=True)]  # as when its machine goes down
    for process in whole:
        process.kill()
    server.wait()
    processes.start("again", *superlink)
    wait_for(lambda: is_up(address, ca), lambda: processes.log("again"))
    processes.run("run-again", *command)
    done = tmp_path / "output" / "model" / "federation.json"
    wait_for(done.is_file, lambda: processes.log("again") + processes.log("site-1"), 300)
    rounds = json.loads(done.read_text())["rounds"]
    assert rounds[:2] == before  # with the seconds that its sites took
    assert [sorted(each["sites"]) for each in rounds[1:]] == [["site-1", "site-2"]] * 2
    assert [each["failed"] for each in rounds[1:]] == [{}] * 2
    assert "CERTIFICATE_VERIFY_FAILED" in processes.log("stranger")


CERTIFICATES = {"certfile": "server.crt", "keyfile": "server.key", "ca-certfile": "ca.crt"}
