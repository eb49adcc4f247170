import pytest

from ragtune.errors import ParameterError, TrainingError
from ragtune.training.arguments import RagTrainingArguments
from ragtune.training.methods.options import make_method
from ragtune.training.rules import check_training


def check(options=None, **parameters):
    check_training({"method": "federated", "method_options": options or {}, **parameters})


def test_it_trains_and_is_judged_as_its_sites_method():
    lsr = make_method("federated", {"local_method": "lsr", "local_options": {"answer_temperature": 2}})
    assert (lsr.trains, lsr.best_by) == ({"question_encoder"}, "recall@1") and lsr.parts == lsr.local.parts
    assert make_method("federated").trains == {"question_encoder", "generator"}
    assert RagTrainingArguments(method="federated", report_to="none").metric_for_best_model == "em"


@pytest.mark.parametrize(
    "options, parameters, message",
    [
        ({"sites": 1}, {}, "sites=1: must be at least 2"),
        ({"average": "all"}, {}, "average='all': must be one of both, retriever"),
        ({"local_method": "federated"}, {}, "a site trains by a method of its own"),
        ({"local_method": "rga"}, {}, "method='rga': must be one of"),
        ({"local_options": {"together": True}}, {}, "method_options of rag: no together"),
        ({"local_method": "retriever"}, {}, "trains the passage encoder, and every site would have to embed"),
        ({"min_sites": 4}, {}, "min_sites=4: there are sites=3"),
        ({"rounds": 9}, {"max_steps": 8}, "max_steps=8: method=federated divides them among rounds=9"),
        ({"rounds": 4}, {"max_steps": 40, "warmup_steps": 10}, "each of the rounds=4 has 10 steps, and warms up anew"),
        ({}, {"lr_scheduler_type": "cosine"}, "must be one of linear, constant"),
        ({"average": "adapters"}, {}, "there are none; set lora_rank"),
        ({"local_method": "alternate"}, {}, "of 200 steps, and with alternate_every=0 not each part has one"),
        ({"local_method": "alternate", "local_options": {"alternate_every": 11}}, {"max_steps": 100}, "to 10 or fewer"),
        (
            {"local_method": "alternate", "local_options": {"alternate_every": 1}},
            {"max_steps": 5},
            "in rounds of two steps or more",
        ),
        ({}, {"processes": 4}, "processes=4: method=federated starts its sites itself"),
        ({}, {"nodes": 2}, "nodes=2: method=federated starts its sites itself"),
        ({"local_method": "lsr"}, {"lora_rank": 4}, "an adapter is for training the generator"),
    ],
)
def test_what_no_federation_can_do_is_refused(options, parameters, message):
    with pytest.raises((ParameterError, TrainingError), match=message):
        check(options, **parameters)


def test_what_a_federation_can_do_is_not():
    check({"rounds": 4, "average": "adapters"}, max_steps=40, warmup_steps=9, lora_rank=4)
    check({"local_method": "alternate", "local_options": {"alternate_every": 10}}, max_steps=100, processes=1)
    check({"rounds": 4}, max_steps=40, warmup_steps=0.05, lr_scheduler_type="constant_with_warmup")
