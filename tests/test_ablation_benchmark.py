"""The table of benchmarks/ablation.py, out of made-up scores."""

from pathlib import Path

import numpy as np


def test_the_ablations_seeds_become_a_table_of_arms_and_of_paired_differences(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import ablation

    def found(em, **moved):
        scores = {"em": (np.arange(20) < em).astype(float), "recall@1": np.ones(20)}
        return scores | {"moved": dict.fromkeys(ablation.PARTS, 0.0) | moved}

    runs = [
        {
            "untrained": found(4),
            "ralt": found(em, generator=moved),
            "rag": found(16, generator=0.1, question_encoder=0.3),
            "closed-book": {"em": np.zeros(20), "moved": {}},
        }
        for em, moved in ((6, 0.1), (8, 0.2))
    ]
    gathered = ablation.gathered(runs, np.arange(20))
    (head, *rows) = ablation.rows(gathered)
    table = {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}
    assert table["ralt"] == {
        "em": "0.350",
        "recall@1": "1.000",
        "question_encoder moved": "0.000",
        "passage_encoder moved": "0.000",
        "generator moved": "0.150",
    }
    assert table["closed-book"]["recall@1"] == ""
    assert table["ralt - untrained"]["em"].startswith("+15.0 (")
    assert table["rag - ralt"]["em"].startswith("+45.0 (")
    difference, low, high = ablation.differences(gathered)["rag - closed-book"]["em"]
    assert low < difference == 0.8 < high
    assert {len(row) for row in (head, *rows)} == {6}
