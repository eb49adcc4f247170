import inspect

import pytest

from ragtune import errors
from ragtune.errors import RagtuneError

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]


def test_whatever_a_user_can_mend_is_one_base_class_and_says_what_it_is():
    assert len(KINDS) > 10
    assert all(issubclass(kind, RagtuneError) and kind.__doc__ for kind in KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_hides_the_secrets_of_the_uris_in_it(kind):
    told = str(kind("https://me:hunter2@milvus.example.org:19530/base does not answer"))
    assert "hunter2" not in told
    assert "milvus.example.org:19530" in told and told.endswith("does not answer")


def test_an_error_without_a_message_is_empty():
    assert str(RagtuneError()) == ""
