import json

import pytest
import urllib3
from kfp_server_api.exceptions import ApiException

from ragtune.kubeflow.credentials import Credentials
from ragtune.kubeflow.failures import RefusedError, UnansweredError, refused, unanswered


def answer(status, body="", secrets=()):
    error = ApiException(status=status)
    error.body = body
    return refused("starting the run", "https://kfp.example.org", "team", Credentials(), error, list(secrets))


@pytest.mark.parametrize(
    ("status", "way"),
    [
        (302, "it does not know who asks (sent: no token and no cookies)"),
        (401, "kubectl create token default-editor -n team"),
        (403, "kubectl auth can-i create runs.pipelines.kubeflow.org -n team"),
        (404, "see what is there with `python pipeline.py runs`"),
        (409, "there is one of that name; give another"),
        (400, "fix what it names"),
    ],
)
def test_a_refusal_names_the_way_out(status, way):
    error = answer(status, json.dumps({"error_message": "no such thing"}))
    assert isinstance(error, RefusedError) and error.status == status
    assert f"starting the run: https://kfp.example.org answered {status}, no such thing; " in str(error)
    assert way in str(error)


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_what_may_mend_itself_is_told_apart(status):
    error = answer(status)
    assert isinstance(error, UnansweredError) and "try again" in str(error)


def test_a_secret_that_the_server_repeats_is_hidden():
    assert "hunter2" not in str(answer(400, b'{"message": "bad token hunter2"}', ["hunter2"]))
    assert "bad token ***" in str(answer(400, b'{"message": "bad token hunter2"}', ["hunter2"]))


def test_a_web_page_is_not_quoted_and_a_long_answer_is_cut():
    assert "answered 404, a web page;" in str(answer(404, "<!doctype html><HTML>login</HTML>"))
    assert len(str(answer(400, "x" * 5000))) < 1000


@pytest.mark.parametrize(
    ("reason", "kind", "message"),
    [
        (urllib3.exceptions.SSLError("self signed certificate"), None, "give the cluster's CA as --ca-file"),
        (urllib3.exceptions.LocationParseError("kfp"), None, "there is no host"),
        (urllib3.exceptions.ReadTimeoutError(None, "", "Read timed out."), UnansweredError, "gave no answer in 30 s"),
        (urllib3.exceptions.ProtocolError("aborted"), UnansweredError, "closed the connection; it may have done it"),
        (
            OSError("HTTPConnection(host): Connection refused"),
            UnansweredError,
            "cannot be reached (Connection refused)",
        ),
    ],
)
def test_no_answer_is_told_by_its_cause(reason, kind, message):
    nested = urllib3.exceptions.MaxRetryError(None, "/", reason)
    error = unanswered("listing runs", "https://kfp.example.org", 30, nested)
    assert message in str(error) and str(error).startswith("listing runs: ")
    assert isinstance(error, UnansweredError) == (kind is UnansweredError)
