import pytest
from transformers import HfArgumentParser

from ragtune.errors import RagtuneError, TrainingError
from ragtune.training.arguments import RagTrainingArguments, RunFiles


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({"method": "rog"}, "method='rog': must be one of rag, rag-token"),
        ({"retrieval": "spark"}, "retrieval='spark': must be one of direct, gather, ray"),
        ({"n_docs": 0}, "n_docs=0: must be at least 1"),
        ({"temperature": 0.0}, "temperature=0.0: must be greater than 0"),
        ({"learning_rate": -1e-3}, "learning_rate=-0.001: must be greater than 0"),
        ({"max_steps": 0}, "max_steps=0: give a number of steps, or -1"),
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size=0: must be at least 1"),
        ({"freeze_question_encoder": True, "freeze_generator": True}, "leave nothing to train"),
        ({"closed_book_steps": -2}, "closed_book_steps=-2: must be at least -1"),
        ({"logging_nan_inf_filter": True}, "it would hide a loss that is NaN"),
        ({"fsdp": "full_shard"}, "fsdp='full_shard': is not possible here"),
        (
            {"save_only_model": True},
            "save_only_model=True: is an argument of transformers' Trainer without effect",
        ),
        ({"dataloader_drop_last": True}, "dataloader_drop_last=True: is an argument"),
        ({"resume_from_checkpoint": "x"}, "resume_from_checkpoint='x': is an argument"),
        ({"neftune_noise_alpha": 5.0}, "neftune_noise_alpha=5.0: is an argument"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor=0.1: is not possible here"),
        ({"metric_for_best_model": "f1"}, "metric_for_best_model='f1': must be one of em, loss"),
        ({"save_strategy": "best"}, "save_strategy=best: the best step is kept anyway"),
        ({"optim": "adamwx"}, "parameters: adamwx is not a valid OptimizerNames"),
        ({"learning_rate": "fast"}, "learning_rate='fast': must be a number"),
        ({"learning_rate": float("nan")}, "learning_rate=nan: must be"),
        ({"n_docs": 2.5}, "n_docs=2.5: must be a whole number"),
    ],
)
def test_an_impossible_parameter_is_named_with_what_is_possible(parameters, complaint):
    with pytest.raises(RagtuneError) as raised:
        RagTrainingArguments(output_dir="run", **parameters)
    assert complaint in str(raised.value)


def test_defaults_keep_the_best_step_by_exact_match_and_report_to_tensorboard():
    args = RagTrainingArguments(output_dir="run")
    assert args.load_best_model_at_end
    assert args.metric_for_best_model == "em"
    assert args.report_to == ["tensorboard"]
    assert args.optim == "adamw_torch_fused"


def test_numbers_may_come_as_yaml_and_json_give_them():
    args = RagTrainingArguments(output_dir="run", learning_rate="3e-5", n_docs=5.0)
    assert args.learning_rate == 3e-5
    assert repr(args.n_docs) == "5"


def test_the_lower_loss_is_the_better_one():
    assert not RagTrainingArguments(output_dir="run", metric_for_best_model="loss").greater_is_better


def test_without_evaluation_no_step_is_the_best():
    args = RagTrainingArguments(output_dir="run", eval_strategy="no")
    assert not args.load_best_model_at_end
    assert not args.eval_on_start


@pytest.mark.parametrize("evaluated", [{"eval_steps": 30}, {"eval_strategy": "epoch"}, {"eval_steps": 0.3}])
def test_checkpoints_have_a_cadence_of_their_own(evaluated):
    args = RagTrainingArguments(output_dir="run", save_steps=50, **evaluated)
    assert (args.save_strategy, args.save_steps, args.load_best_model_at_end) == ("steps", 50, True)


def test_the_command_line_has_files_and_parameters(tmp_path):
    parser = HfArgumentParser([RunFiles, RagTrainingArguments])
    files = {"dataset_folder": tmp_path, "knowledge_base_folder": tmp_path, "model_folder": tmp_path}
    files |= {"output_folder": tmp_path / "out", "work_folder": tmp_path / "work"}
    words = [word for name, value in files.items() for word in (f"--{name}", str(value))]
    parsed_files, args = parser.parse_args_into_dataclasses([*words, "--n_docs", "7", "--freeze_generator"])
    assert parsed_files.work_folder == str(tmp_path / "work")
    assert (args.n_docs, args.freeze_generator) == (7, True)


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"model_folder": ""}, "no base model: give model_folder, or all three of"),
        ({"generator": "t5"}, "give model_folder, or question_encoder, passage_encoder and generator; not both"),
        ({"dataset_folder": "nowhere"}, "nowhere: no such folder; check dataset_folder"),
        ({"closed_book_folder": "out"}, "out: is both output_folder and closed_book_folder"),
    ],
)
def test_files_that_cannot_be_meant_are_refused(tmp_path, changed, complaint):
    files = {name: str(tmp_path) for name in ("dataset_folder", "knowledge_base_folder", "model_folder")}
    with pytest.raises(TrainingError, match=complaint):
        RunFiles(**files | {"output_folder": "out", "work_folder": "work"} | changed)
