"""A real Milvus server: the binary inside the PyPI package milvus, 2.3.5, started on the spot and stopped again."""

import os
import secrets
import signal
import socket
from pathlib import Path

from ragtune.knowledge.milvus import connect_server

PASSWORD = secrets.token_hex(16)
TOKEN = f"root:{PASSWORD}"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Server:
    """A Milvus that asks for a password: this version listens on every interface, whatever it is told."""

    def __init__(self, folder):
        from milvus import MilvusServer, MilvusServerConfig

        config = MilvusServerConfig(data_dir=str(folder))
        config.configs.update({name: free_port() for name in config.configurable_items if name.endswith("_port")})
        config.set("authorization_enabled", True)
        self.server = MilvusServer(config)
        self.server.webservice_port = free_port()
        self.server.start()
        self.pid = self.server.server_proc.pid
        self.uri = f"http://127.0.0.1:{self.server.listen_port}"
        client = connect_server(self.uri, "root:Milvus")
        client.update_password("root", "Milvus", PASSWORD)
        client.close()

    def kill(self):
        if self.server.server_proc:
            os.kill(self.pid, signal.SIGKILL)
            self.server.server_proc.wait()
        self.server.stop()

    def end(self):
        """Stop it, and see that nothing of it is left."""
        self.kill()
        assert not Path(f"/proc/{self.pid}").exists()
        assert processes_about(self.server.config.base_data_dir) == []


def processes_about(text):
    """Processes whose command line holds a text."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found
