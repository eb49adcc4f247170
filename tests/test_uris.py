import doctest

import pytest

from ragtune import uris
from ragtune.errors import StorageError
from ragtune.uris import holds_secret, shown

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        (f"http://me:{SECRET}@host:80/x", "http://***@host:80/x"),
        (f"http://me:{SECRET}/more@host/x", "http://***@host/x"),
        (f"http://me:12/{SECRET}@host/x", "http://***@host/x"),
        (f"http://me:p@{SECRET}?x@host/x", "http://***@host/x"),
        (f"https://{SECRET}@host/x", "https://***@host/x"),
        (f"postgresql://me:{SECRET}@host/mlflow", "postgresql://***@host/mlflow"),
        (f"s3://key:{SECRET}@bucket/x", "s3://***@bucket/x"),
        (f"https://b.s3.org/x.gz?X-Amz-Date=1&X-Amz-Signature={SECRET}", "https://b.s3.org/x.gz?X-Amz-Date=1&X-Amz-Signature=***"),
        (f"https://b/x?X-Amz-Credential={SECRET}%2Fx&a=b", "https://b/x?X-Amz-Credential=***&a=b"),
        (f"https://b/x?X-Goog-Signature={SECRET}", "https://b/x?X-Goog-Signature=***"),
        (f"https://a.blob.org/x?sv=1&sig={SECRET}%3D", "https://a.blob.org/x?sv=1&sig=***"),
        (f"https://b/x?access%5Ftoken={SECRET}", "https://b/x?access%5Ftoken=***"),
        (f"https://b/x?api_key={SECRET}#row", "https://b/x?api_key=***#row"),
        (f"https://b/x?a=1;sig={SECRET};b=2", "https://b/x?a=1;sig=***;b=2"),
        (f"https://b/x?pass={SECRET}&jwt={SECRET}", "https://b/x?pass=***&jwt=***"),
        (f"https://proxy/?url=https://b/x?sig={SECRET}", "https://proxy/?url=https://b/x?sig=***"),
        (f"https://proxy/?url=https%3A%2F%2Fb%2Fx%3Fsig%3D{SECRET}&a=b", "https://proxy/?url=***&a=b"),
    ],
)  # fmt: skip
def test_secrets_are_hidden_and_nothing_else(uri, expected):
    assert shown(uri) == expected
    assert shown(expected) == expected
    assert holds_secret(uri)
    assert not holds_secret(expected)


@pytest.mark.parametrize(
    "uri",
    [
        "hf://datasets/owner/name@rev/file.jsonl",
        "s3://bucket/part@2/x.jsonl",
        "abfs://container@account.dfs.core.windows.net/x",
        "github://owner:repository@main/x.csv",
        "sqlite:////home/me/a:b@c.db",
        "http://host:80/x?page=2&download=1",
        "zip://a.csv::https://host/x.zip",
        "a/b@c.jsonl",
    ],
)
def test_what_is_no_secret_stays(uri):
    assert shown(uri) == uri
    assert not holds_secret(uri)


def test_a_message_keeps_what_stands_around_the_uri():
    assert (
        shown("url='https://h/x?sig=a': 403, see http://u:p@h: no")
        == "url='https://h/x?sig=***': 403, see http://***@h: no"
    )
    assert shown(shown("https://h/x?sig=abc") + ":17: broken") == "https://h/x?sig=***:17: broken"


def test_no_error_of_ours_shows_a_secret():
    error = StorageError(f"https://h/x?sig={SECRET}: no such file")
    assert SECRET not in f"{error} {error!r}"


def test_a_name_that_is_not_utf8_is_escaped():
    shown("caf\udce9.jsonl").encode()
    assert shown("caf\udce9.jsonl") == r"caf\udce9.jsonl"


def test_the_example():
    assert doctest.testmod(uris).failed == 0
