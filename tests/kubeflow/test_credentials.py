import pytest

from ragtune.errors import ClusterError
from ragtune.kubeflow import credentials as module
from ragtune.kubeflow.credentials import Credentials


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        (tmp_path / name).write_text(content)
        return str(tmp_path / name)

    return write


def test_a_given_file_goes_before_the_environment_and_that_before_the_pods(write, monkeypatch):
    pod = write("pod", "of-the-pod")
    monkeypatch.setattr(module, "POD_TOKEN_FILE", module.Path(pod))
    assert Credentials.find(in_cluster=True).token() == "of-the-pod"
    assert Credentials.find().token() == ""  # another cluster does not get this pod's token
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", write("kfp", "of-kfp"))
    assert Credentials.find(in_cluster=True).token() == "of-kfp"
    monkeypatch.setenv("RAGTUNE_KFP_TOKEN", "of-the-variable")
    assert Credentials.find(in_cluster=True).token() == "of-the-variable"
    monkeypatch.setenv("RAGTUNE_KFP_TOKEN_FILE", write("named", "of-the-named-file"))
    assert Credentials.find(in_cluster=True).token() == "of-the-named-file"
    assert Credentials.find(token_file=write("given", "given"), in_cluster=True).token() == "given"


def test_a_token_is_read_again_at_every_request(write):
    found = Credentials.find(token_file=write("token", "first\n"))
    assert found.token() == "first"
    write("token", "second\n")
    assert found.token() == "second"


def test_they_are_told_by_their_places_alone(write, monkeypatch):
    assert Credentials.find().source() == "no token and no cookies"
    monkeypatch.setenv("RAGTUNE_KFP_COOKIES", "authservice_session=hidden")
    file = write("token", "hidden")
    assert Credentials.find(token_file=file).source() == f"the token of {file} and the cookies of RAGTUNE_KFP_COOKIES"
    assert Credentials.find().cookies() == "authservice_session=hidden"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty; write the bearer token there"),
        ("two words", "one line of ASCII"),
        ("zwölf", "one line of ASCII"),
    ],
)
def test_what_is_no_token_is_refused_without_quoting_it(write, content, message):
    with pytest.raises(ClusterError, match=message) as caught:
        Credentials.find(token_file=write("token", content)).token()
    assert not content or content not in str(caught.value)


def test_a_token_in_place_of_its_file_is_not_shown():
    with pytest.raises(ClusterError, match=r"\*\*\* \(a token in place of a path\?\): the bearer token cannot be read"):
        Credentials.find(token_file="eyJhbGciOi" * 10).token()


def test_a_bundle_that_holds_no_certificate_is_known_at_once(write):
    with pytest.raises(ClusterError, match=r"ca.pem: no CA bundle in PEM .*; give the cluster's"):
        Credentials.find(ca_file=write("ca.pem", "no certificate"))
