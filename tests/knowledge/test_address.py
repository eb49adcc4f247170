import socket

import pytest

from ragtune.errors import KnowledgeBaseError, UnavailableError
from ragtune.knowledge.address import check_milvus_uri, check_name, wait_until_listening


@pytest.mark.parametrize("name", ["", "1st", "a-b", "../evil", "a/b", "ä"])
def test_a_name_that_feast_or_a_folder_would_not_take_is_refused(name):
    with pytest.raises(KnowledgeBaseError, match="with a letter first"):
        check_name(name)
    check_name("wiki_2024")


@pytest.mark.parametrize("uri", ["", "milvus:19530", "tcp://milvus:19530", "http://", "http://m:port", "http://m:0"])
def test_what_is_no_address_of_a_server_is_refused(uri):
    with pytest.raises(KnowledgeBaseError, match="is no URI of a Milvus server"):
        check_milvus_uri(uri)
    check_milvus_uri("https://milvus.example.org")


def test_a_password_in_the_address_is_refused_and_not_repeated():
    with pytest.raises(KnowledgeBaseError, match="RAGTUNE_MILVUS_TOKEN") as error:
        check_milvus_uri("http://root:hunter2@milvus:19530")
    assert "hunter2" not in str(error.value)


def test_a_server_is_waited_for_and_one_that_is_gone_is_named():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        wait_until_listening(f"http://127.0.0.1:{port}", 1)
        wait_until_listening("http://127.0.0.1", 1, http_port=port)
    with pytest.raises(UnavailableError, match=f"http://127.0.0.1:{port}: no Milvus answers"):
        wait_until_listening(f"http://127.0.0.1:{port}", 0)
