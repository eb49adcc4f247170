"""The checks before a site joins, against a real TLS server on loopback."""

import json
import socket
import ssl
import threading
from contextlib import closing, contextmanager

import pytest
from certificates import make_certificates

from ragtune.errors import ClusterError, ModelError, ParameterError, TrainingError
from ragtune.federation import preflight
from ragtune.federation.__main__ import main
from ragtune.federation.preflight import check_server, check_site


@contextmanager
def listening(folder=None):
    """A server that greets every caller by TLS, or, without certificates, by a line of text; yields its address."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def serve():
            while True:
                try:
                    caller, _ = server.accept()
                except OSError:
                    return
                with caller:
                    try:
                        if folder:
                            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                            context.load_cert_chain(folder / "server.crt", folder / "server.key")
                            context.wrap_socket(caller, server_side=True).close()
                        else:
                            caller.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    except OSError:
                        continue

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)  # which ends accept


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    return make_certificates(folder / "ours"), make_certificates(folder / "theirs")


def test_a_server_with_the_right_certificate_is_in_order(certificates):
    with listening(certificates[0]) as address:
        check_server(address, certificates[0] / "ca.crt")


def test_a_wrong_certificate_is_named_with_the_way_out(certificates):
    with listening(certificates[0]) as address:
        with pytest.raises(ClusterError, match=f"{address}: its certificate is not to be tru.*give the"):
            check_server(address, certificates[1] / "ca.crt")
        elsewhere = address.replace("127.0.0.1", "localhost")
        with pytest.raises(ClusterError, match="or an address that the certificate names"):
            check_server(elsewhere, certificates[0] / "ca.crt")


def test_a_server_that_is_down_or_without_tls_is_named(certificates):
    with listening() as address, pytest.raises(ClusterError, match=f"{address}: speaks no TLS .*--ssl-certfile"):
        check_server(address, certificates[0] / "ca.crt")
    with pytest.raises(ClusterError, match=f"{address}: does not answer .*is flower-superlink running there"):
        check_server(address, certificates[0] / "ca.crt")
    with pytest.raises(ParameterError, match="nowhere: no HOST:PORT"):
        check_server("nowhere", certificates[0] / "ca.crt")
    with pytest.raises(ParameterError, match=r"server\.key: no certificates in PEM"):
        check_server(address, certificates[0] / "server.key")


@pytest.fixture
def site_file(sites, tmp_path):
    def site_file(**changes):
        own = {name.replace("_", "-"): value for name, value in vars(sites[0]).items() if value}
        own = {"site": own.pop("name"), **own} | changes
        (tmp_path / "site.toml").write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in own.items()))
        return tmp_path / "site.toml"

    return site_file


def test_a_sites_folders_are_checked_together(site_file, monkeypatch, tmp_path):
    monkeypatch.setattr(preflight, "in_own_process", lambda function, *arguments, imports: function(*arguments))
    with pytest.raises(TrainingError, match=r"site site-1: .*no tokenised pairs .*tokenize_pairs writes them"):
        check_site(site_file(dataset=str(tmp_path)))
    with pytest.raises(ModelError, match=r"site site-1: .*this is no ragtune model"):
        check_site(site_file(model=str(tmp_path)))
    with pytest.raises(ParameterError, match=r"site\.toml: cannot be read as TOML"):
        check_site(tmp_path / "nowhere" / "site.toml")


@pytest.mark.parametrize(
    "settings, message",
    [
        ("{retrieval}", r"site site-1: settings: \{retrieval\} is no JSON .*; such as"),
        (3, "site site-1: settings: 3 is no JSON"),
        ("[1]", r"site site-1: settings: \[1\] is no JSON object"),
        ('{"learning_rate": 1}', "site site-1: a site's settings: learning_rate is the server's to choose"),
        ('{"retrieval": "exat"}', "site site-1: a site's settings: retrieval='exat': must be one of"),
        ('{"attn_implementation": "flash_attention_2"}', "site site-1: attn_implementation=flash_attention_2"),
    ],
)
def test_a_sites_own_settings_are_checked_as_a_round_would(site_file, monkeypatch, settings, message):
    monkeypatch.setattr(preflight, "in_own_process", lambda function, *arguments, imports: function(*arguments))
    with pytest.raises((ParameterError, TrainingError, ModelError), match=message):
        check_site(site_file(settings=settings))


def test_the_command_checks_a_site_and_its_server(site_file, certificates, monkeypatch, capsys):
    monkeypatch.setattr(preflight, "in_own_process", lambda function, *arguments, imports: function(*arguments))
    with listening(certificates[0]) as address:
        command = ["check", str(site_file()), "--superlink", address, "--root-certificates"]
        assert main([*command, str(certificates[0] / "ca.crt")]) == 0
        assert (
            "site site-1: data, knowledge base, model, server and certificate are in order" in capsys.readouterr().err
        )
        assert main([*command, str(certificates[1] / "ca.crt")]) == 1
    told = capsys.readouterr().err
    assert told.startswith("ragtune.federation: 127.0.0.1:") and "not to be trusted" in told
