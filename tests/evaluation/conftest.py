import random

import pytest


@pytest.fixture
def report_inputs():
    """A possible result of a run of 60 questions: 40 won, 5 lost, 5 right twice, 10 wrong twice."""
    chooser = random.Random(0)
    passages = {f"p{n}": {"title": f"Title {n} <&>", "text": f"The text of {n} says Answer {n}."} for n in range(20)}
    predictions = [_prediction(number, chooser) for number in range(60)]
    metrics = {"test_questions": 60, "answerable_test_questions": 50, "gold_questions": 60, "answerable_k": 10}
    for prefix in ("", "answerable_"):
        for name in ("em", "f1", "rouge1", "rouge2", "rougeL"):
            metrics |= {f"{prefix}{name}_before": 0.112, f"{prefix}{name}_after": 0.724}
            metrics |= {f"{prefix}{name}_closed_book": 0.083}
        for name in ("recall@1", "recall@5", "recall@20", "mrr@10", "ndcg@10"):
            for kind in ("", "answer_"):
                metrics |= {f"{prefix}{kind}{name}_before": 0.431, f"{prefix}{kind}{name}_after": 0.912}
        for name, difference in (("em", 0.612), ("f1", 0.612), ("recall@5", 0.481)):
            metrics[f"{prefix}{name}_difference"] = difference
            metrics[f"{prefix}{name}_difference_low"] = difference - 0.05
            metrics[f"{prefix}{name}_difference_high"] = difference + 0.05
    log = [{"step": step, "loss": 6 / step} | ({"em": step / 100} if step % 10 == 0 else {}) for step in range(1, 61)]
    return {
        "metrics": metrics,
        "predictions": predictions,
        "passages": passages,
        "title": "a model <1>",
        "training_log": log,
        "rejected": {"yes_no": 422, "long_only": 5121},
        "knowledge_base": {"version": "kb_v1", "rows": 345, "content_hash": "ab12" * 16},
        "parameters": {"n_docs": 5, "learning_rate": 3e-5},
        "seconds": {"finetune_rag": 181.25},
    }


def _prediction(number, chooser):
    before, after = number < 10, number < 5 or number >= 20
    retrieved = [
        {"id": f"p{chooser.randrange(20)}", "probability": p, "gold": chooser.random() < p, "answer": False}
        for p in (0.6, 0.25, 0.1, 0.04, 0.01)
    ]
    return {
        "id": f"q{number}",
        "group": number,
        "question": f"which number is {number} <script>alert(1)</script>?",
        "answers": [f"Answer {number}"],
        "gold_ids": [f"w{number}"],
        "answerable": number >= 10,
        "prediction_before": f"Answer {number}" if before else "",
        "prediction_after": f"Answer {number}" if after else "other",
        "prediction_closed_book": "some",
        "em_before": float(before),
        "em_after": float(after),
        "em_closed_book": 0.0,
        "gold_rank_before": chooser.choice([None, 1, 7, 20]),
        "gold_rank_after": chooser.choice([1, 2]),
        "answer_rank_before": None,
        "answer_rank_after": 1,
        "retrieved_before": retrieved,
        "retrieved_after": retrieved[::-1],
    }
