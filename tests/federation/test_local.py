import pytest

from ragtune.errors import ParameterError
from ragtune.federation.local import round_settings, shared_settings, site_settings
from ragtune.training.arguments import RagTrainingArguments
from ragtune.training.methods.federated import FederatedOptions

OPTIONS = FederatedOptions(rounds=3, local_method="lsr", local_options={"answer_temperature": 2.0})
SHARED = {"max_steps": 100, "learning_rate": 0.3, "question_encoder_learning_rate": 0.6, "seed": 5, "lora_merge": True}


def test_the_rounds_share_steps_and_a_linear_schedule():
    rounds = [round_settings(SHARED, OPTIONS, number) for number in (1, 2, 3)]
    assert [each["max_steps"] for each in rounds] == [33, 33, 34]
    starts = [each["learning_rate"] for each in rounds]
    ends = [each["lr_scheduler_kwargs"]["lr_end"] for each in rounds]
    assert starts == pytest.approx([0.3, 0.3 * 0.67, 0.3 * 0.34])
    assert ends == pytest.approx([*starts[1:], 0])
    assert [each["question_encoder_learning_rate"] / each["learning_rate"] for each in rounds] == pytest.approx([2] * 3)
    assert len({each["seed"] for each in rounds}) == 3
    assert {each["method"] for each in rounds} == {"lsr"} and not any(each["lora_merge"] for each in rounds)


def test_a_constant_rate_stays():
    constant = round_settings({**SHARED, "lr_scheduler_type": "constant"}, OPTIONS, 3)
    assert (constant["learning_rate"], constant["lr_scheduler_type"]) == (0.3, "constant")


def test_every_site_understands_what_a_run_shares():
    args = RagTrainingArguments(method="federated", max_steps=50, n_docs=3, report_to="none", seed=4)
    shared = shared_settings(args.to_dict())
    assert "report_to" not in shared and "output_dir" not in shared and shared["n_docs"] == 3
    local = site_settings(round_settings(shared, FederatedOptions(rounds=5), 5), {"precision": "fp32"})
    understood = RagTrainingArguments(**local, report_to="none")
    assert (understood.method, understood.max_steps, understood.precision) == ("rag", 10, "fp32")


def test_a_site_chooses_what_its_machine_can_do_and_no_more():
    with pytest.raises(ParameterError, match="learning_rate is the server's to choose; a site's are activation_"):
        site_settings({}, {"learning_rate": 1.0})
    with pytest.raises(ParameterError, match="the server's settings: no output_dir"):
        site_settings({"output_dir": "/etc"}, {})
