import datetime
import ipaddress
import logging
import socket
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kfp_server import KfpServer

from ragtune.errors import ClusterError
from ragtune.kubeflow import connection as connections
from ragtune.kubeflow import credentials
from ragtune.kubeflow.client import list_runs
from ragtune.kubeflow.connection import connect
from ragtune.kubeflow.failures import RefusedError, UnansweredError

SECRET = "eyJhbGciOi.of-a-token"


@pytest.fixture
def token_file(tmp_path):
    file = tmp_path / "token"
    file.write_text(f"{SECRET}\n")
    return file


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A file with a key and a certificate that vouches for itself, for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a cluster's own")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    signed = builder.add_extension(address, False).sign(key, hashes.SHA256())
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    file.write_bytes(pem + signed.public_bytes(serialization.Encoding.PEM))
    return file


def told(function, *arguments, **options):
    with pytest.raises(ClusterError) as error:
        function(*arguments, **options)
    assert (error.value.__cause__ is None and error.value.__suppress_context__) or error.value.__context__ is None
    return str(error.value)


def test_the_token_of_a_file_is_sent_and_read_again_when_it_rotates(server, token_file):
    server.token = SECRET
    connection = connect(server.host, token_file=str(token_file))
    server.token = "the next one"
    with pytest.raises(RefusedError) as error:
        list_runs(connection)
    assert error.value.status == 401
    token_file.write_text("the next one".replace(" ", "-"))
    server.token = "the-next-one"
    assert list_runs(connection) == []


def test_tokens_come_from_the_environment_too(server, token_file, monkeypatch):
    server.token = SECRET
    for name, value in (
        ("RAGTUNE_KFP_TOKEN", SECRET),
        ("RAGTUNE_KFP_TOKEN_FILE", token_file),
        ("KF_PIPELINES_SA_TOKEN_PATH", token_file),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, str(value))
            connect(server.host)
    assert "401" in told(connect, server.host)


def test_a_pods_own_token_goes_to_its_own_cluster_alone(server, token_file, monkeypatch):
    monkeypatch.setattr(credentials, "POD_TOKEN_FILE", token_file)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    connect(server.host)
    assert "authorization" not in server.headers[-1]
    monkeypatch.setattr(connections, "IN_CLUSTER_HOST", server.host)
    connect()
    assert server.headers[-1]["authorization"] == f"Bearer {SECRET}"


def test_cookies_open_a_kubeflow_behind_dex(server, tmp_path, monkeypatch):
    server.cookie = "authservice_session=MTYx; path=x"
    file = tmp_path / "cookies"
    file.write_text(server.cookie)
    assert list_runs(connect(server.host, cookies_file=str(file))) == []
    monkeypatch.setenv("RAGTUNE_KFP_COOKIES", server.cookie)
    connect(server.host)
    monkeypatch.setenv("RAGTUNE_KFP_COOKIES", "authservice_session=old")
    message = told(connect, server.host)
    assert "answered 302" in message and "the cookies of RAGTUNE_KFP_COOKIES): expired" in message
    assert "session=old" not in message


def test_a_clusters_own_authority_is_trusted_where_its_bundle_is_given(certificate, tmp_path, monkeypatch):
    with KfpServer(certificate=certificate) as server:
        message = told(connect, server.host)
        assert "is not trusted" in message and "--ca-file" in message
        connect(server.host, ca_file=str(certificate))
        monkeypatch.setenv("RAGTUNE_KFP_CA_FILE", str(certificate))
        connect(server.host)
        assert "no.pem: no CA bundle in PEM" in told(connect, server.host, ca_file=str(tmp_path / "no.pem"))
        (tmp_path / "empty.pem").write_text("")
        assert "empty.pem: no CA bundle" in told(connect, server.host, ca_file=str(tmp_path / "empty.pem"))


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (401, '{"message": "Unauthenticated"}', "401, Unauthenticated; it does not know who asks (sent: the token of"),
        (403, "RBAC: access denied", "403, RBAC: access denied; is the namespace NAMESPACE yours?"),
        (404, "404 page not found", "404, 404 page not found; see what is there"),
        (409, '{"message": "taken"}', "409, taken; there is one of that name"),
        (400, '{"message": "bad filter"}', "400, bad filter; fix what it names"),
        (500, '{"code": 13, "message": "no space"}', "500, no space; try again; if it lasts, see `kubectl logs"),
        (503, "<html>upstream</html>", "503, a web page; try again"),
        (500, "", "500; try again"),
        (200, "{", "gave an answer that KFP does not give; give the address of KFP's API as --host"),
    ],
)
def test_each_refusal_is_one_message_with_the_way_out_and_no_secret(server, token_file, caplog, status, body, expected):
    caplog.set_level(logging.DEBUG)
    connection = connect(server.host, token_file=str(token_file))
    server.faults["GET /apis/v2beta1/runs"] = (status, body)
    message = told(list_runs, connection)
    assert message.startswith(f"listing the runs: {server.host} ") and expected in message
    assert SECRET not in message + caplog.text and "of-the-server" not in message


def test_a_server_that_repeats_the_token_does_not_make_us_do_so(server, token_file):
    connection = connect(server.host, token_file=str(token_file))
    server.faults["GET /apis/v2beta1/runs"] = (401, f'{{"message": "invalid bearer token {SECRET}"}}')
    assert "invalid bearer token ***" in told(list_runs, connection)


def test_a_hang_ends_in_time(server):
    connection = connect(server.host, seconds=(1, 0.2))
    server.faults["GET /apis/v2beta1/runs"] = (0, "")
    start = time.monotonic()
    with pytest.raises(UnansweredError, match=r"gave no answer in 0\.2 s; it may have done it all the same"):
        list_runs(connection)
    assert time.monotonic() - start < 2
    assert sum("/runs" in request for request in server.requests) == 1  # a second one could start a second run


def test_bad_hosts_are_told_in_time():
    start = time.monotonic()
    assert "no KFP server is named; give its address as --host" in told(connect)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        message = told(connect, f"http://127.0.0.1:{closed.getsockname()[1]}")
    assert "cannot be reached" in message and "kubectl port-forward" in message
    assert "there is no host http://nowhere.invalid" in told(connect, "http://nowhere.invalid", seconds=(1, 1))
    assert "is no address" in told(connect, "https://")
    assert time.monotonic() - start < 8


def test_an_address_holds_no_password():
    message = told(connect, f"https://me:{SECRET}@kubeflow.example.org")
    assert "an address holds no password" in message and SECRET not in message


@pytest.mark.parametrize("body", ["<html>Kubeflow</html>", '"hello"', "{}"])
def test_what_is_no_kfp_is_told(server, body):
    server.faults["GET /apis/v2beta1/healthz"] = (200, body)
    assert "ends in /pipeline" in told(connect, server.host)


def test_users_have_namespaces_and_must_name_theirs(server, tmp_path, monkeypatch):
    assert "--namespace mine: " in told(connect, server.host, namespace="mine")
    server.multi_user = True
    assert "KFP has users here; give your profile's --namespace" in told(connect, server.host)
    message = told(list_runs, connect(server.host, namespace="yours"))
    assert "403" in message and "is the namespace yours yours?" in message
    (tmp_path / "namespace").write_text("mine")
    monkeypatch.setattr(connections, "POD_NAMESPACE_FILE", tmp_path / "namespace")
    assert connect(server.host).namespace == "mine"


@pytest.mark.parametrize("content", ["", "two\nlines", "tök", "a b"])
def test_a_token_file_that_holds_no_token_is_refused_without_quoting_it(server, tmp_path, content):
    (tmp_path / "token").write_text(content)
    message = told(connect, server.host, token_file=str(tmp_path / "token"))
    assert message.startswith(f"{tmp_path / 'token'}: ")
    assert not content or content not in message
    assert server.requests == []


def test_a_token_file_that_is_not_there_is_named(server, tmp_path):
    assert "gone: the bearer token cannot be read" in told(connect, server.host, token_file=str(tmp_path / "gone"))
    assert SECRET not in told(connect, server.host, token_file=SECRET * 5)
