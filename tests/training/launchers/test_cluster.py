"""Requests to a cluster by a pod's own service account."""

from datetime import datetime, timedelta
from types import SimpleNamespace

import pytest
from kubernetes.config import incluster_config

from ragtune.training.launchers.trainjob import cluster
from ragtune.training.launchers.trainjob.cluster import Cluster, RefusedError


@pytest.fixture
def in_pod(kubernetes, tmp_path, monkeypatch):
    """The cluster as a pod asks it, whose token is the content of a file; `clock[0]` is the time."""
    clock = [datetime(2026, 1, 1)]
    (tmp_path / "namespace").write_text("team")
    (tmp_path / "ca.crt").write_text("PEM")
    (tmp_path / "token").write_text("first")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setattr(cluster, "_SERVICE_ACCOUNT", tmp_path)
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    now = SimpleNamespace(datetime=SimpleNamespace(now=lambda: clock[0]), timedelta=timedelta)
    monkeypatch.setattr(incluster_config, "datetime", now)
    configured = incluster_config.InClusterConfigLoader._set_config

    def over_http(loader, settings):  # the test's server has no certificate
        configured(loader, settings)
        settings.host = kubernetes.host

    monkeypatch.setattr(incluster_config.InClusterConfigLoader, "_set_config", over_http)
    asked = Cluster(patience=0.0)
    return SimpleNamespace(cluster=asked, clock=clock, token=tmp_path / "token")


def test_a_token_that_rotates_is_followed(kubernetes, in_pod):
    path = in_pod.cluster.of_namespace("pods", "step")
    assert in_pod.cluster.find(path)["metadata"]["name"] == "step"
    in_pod.token.write_text("second")
    in_pod.clock[0] += timedelta(minutes=2)
    in_pod.cluster.find(path)
    assert [told.lower() for told in kubernetes.authorizations] == ["bearer first", "bearer second"]


def test_a_token_that_has_expired_is_an_error_at_once(kubernetes, in_pod):
    in_pod.cluster._patience = 60.0
    kubernetes.faults["GET"] = [(401, '{"message": "Unauthorized"}')]
    with pytest.raises(RefusedError, match="401, Unauthorized"):
        in_pod.cluster.get(in_pod.cluster.of_namespace("pods"))
