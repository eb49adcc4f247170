import pytest

from ragtune.errors import ParameterError, TrainingError
from ragtune.training.rules import check_training


def test_what_goes_together_passes_and_unknown_names_are_passed_over():
    check_training(
        {"method": "rag", "max_steps": 5, "n_docs": 3, "metric_for_best_model": "recall@3", "other": object()}
    )
    check_training({"max_steps": -1, "temperature": None, "max_staleness": 100, "refresh_every": 100})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_steps": 0}, "max_steps=0: give a number of steps, or -1"),
        ({"metric_for_best_model": "f1"}, "metric_for_best_model='f1': must be one of em, loss"),
        ({"metric_for_best_model": "recall@3", "n_docs": 5}, "must be one of"),
        ({"freeze_question_encoder": True, "freeze_generator": True}, "leave nothing to train"),
        ({"max_staleness": 50, "refresh_every": 100}, "max_staleness=50: .*refresh_every=100"),
        ({"method": "nope"}, "method='nope': must be one of rag"),
        ({"method": "rag", "method_options": "{"}, "cannot be read as JSON"),
    ],
)
def test_what_does_not_is_refused(given, message):
    with pytest.raises(TrainingError, match=message):
        check_training(given)


@pytest.mark.parametrize("given", [{"batch_size": 0}, {"per_device_train_batch_size": 0}, {"learning_rate": 0}])
def test_a_value_out_of_its_bounds_is_refused_by_either_name(given):
    with pytest.raises(ParameterError, match=next(iter(given))):
        check_training(given)
