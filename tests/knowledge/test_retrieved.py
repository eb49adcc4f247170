import subprocess
import sys

import numpy as np
import pytest

from ragtune.knowledge.retrieved import PADDING_ROW, Retrieved


def retrieved(rows=(2, 3), scores=(2, 3), embeddings=(2, 3, 4)):
    return Retrieved(np.zeros(rows, np.int64), np.zeros(scores, np.float32), np.zeros(embeddings, np.float32))


def test_padding_is_masked():
    found = retrieved()
    found.rows[1, 2] = PADDING_ROW
    assert found.mask.tolist() == [[True] * 3, [True, True, False]]
    assert len(found) == 2


@pytest.mark.parametrize(
    "shapes", [{"rows": (2,)}, {"scores": (2, 4)}, {"scores": (3, 3)}, {"embeddings": (2, 4, 4)}, {"embeddings": (2,)}]
)
def test_arrays_that_do_not_fit_are_refused(shapes):
    with pytest.raises(ValueError, match="do not fit"):
        retrieved(**shapes)


def test_passages_and_results_need_neither_feast_nor_milvus_nor_torch():
    code = (
        "import sys, ragtune.knowledge.passages, ragtune.knowledge.retrieved, ragtune.questions.filtering,"
        " ragtune.questions.answerability; print(sorted({'feast', 'pymilvus', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
