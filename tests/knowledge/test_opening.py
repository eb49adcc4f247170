import pytest
from animals import exact_rows

from ragtune.errors import KnowledgeBaseError
from ragtune.evaluation.searched import searched
from ragtune.knowledge.exact_base import ExactKnowledgeBase
from ragtune.knowledge.knowledge_base import KnowledgeBase
from ragtune.knowledge.opening import open_to_read
from ragtune.knowledge.serving import served


def test_a_base_that_no_one_has_open_is_searched_with_its_index(folder):
    with open_to_read(folder) as base:
        assert isinstance(base, KnowledgeBase)


def test_a_base_that_another_process_has_open_is_searched_exactly_and_that_is_told(folder, version, encoder, capsys):
    queries = encoder.encode(["the otter of the forest", "number 7"])
    with served(version / "milvus.db"):
        with open_to_read(folder, encoder_fingerprint=encoder.fingerprint) as base:
            assert isinstance(base, ExactKnowledgeBase)
            assert base.search(queries, 10).rows.tolist() == exact_rows(encoder, base.passages, queries, 10).tolist()
        with searched(folder, encoder.fingerprint) as base:  # of an evaluation, for the champion too
            assert base.search(queries, 5).mask.all()
            assert base.index_recall() == {}
    assert f"{version}: its Milvus is open in another process; searching exactly" in capsys.readouterr().err


def test_other_errors_stay_errors(folder, version):
    (version / "registry.db").unlink()
    with pytest.raises(KnowledgeBaseError, match="is not in Feast's registry"):
        open_to_read(folder)
