import pytest
import torch
from safetensors.torch import load_file

from ragtune.errors import TrainingError
from ragtune.models.checkpoint import load_model, save_model
from ragtune.training.arguments import RagTrainingArguments
from ragtune.training.lora import begin_adapter
from ragtune.training.rules import check_training

SMALL = {"max_steps": 2, "per_device_train_batch_size": 4, "n_docs": 2, "temperature": 1.0}
SMALL |= {"eval_strategy": "no", "save_strategy": "no"}


def weights(generator):
    return {name: weight.clone() for name, weight in generator.backbone.state_dict().items()}


def test_a_run_with_lora_trains_the_adapter_and_the_question_encoder(make_trainer, tmp_path):
    trainer = make_trainer(lora_rank=2, lora_merge=False, **SMALL)
    generator = trainer.rag.generator
    before = weights(generator)
    learning = {name for name, p in trainer.model.named_parameters() if p.requires_grad}
    assert all(".lora_" in name for name in learning if name.startswith("generator."))
    assert any(name.startswith("question_encoder.") for name in learning)
    trainer.train()
    after = weights(generator)
    assert {name for name in before if not torch.equal(before[name], after[name])} == {
        n for n in before if "lora_" in n
    }
    save_model(trainer.rag, tmp_path / "model")
    loaded = load_model(tmp_path / "model").generator
    assert all(torch.equal(weight, after[name]) for name, weight in weights(loaded).items())
    further = make_trainer(model=load_model(tmp_path / "model"), folder="further", lora_rank=2, **SMALL)
    assert all(torch.equal(weight, after[name]) for name, weight in weights(further.rag.generator).items())


def test_a_killed_run_resumes_exactly_from_checkpoints_without_the_frozen_weights(make_trainer, tmp_path, monkeypatch):
    parameters = {"max_steps": 4, "eval_steps": 4, "save_steps": 2, "report_to": "none", "learning_rate": 1e-2}
    parameters |= {"lora_rank": 2, "lora_dropout": 0.5, "n_docs": 2, "temperature": 1.0, "max_eval_questions": 4}
    whole, killed, resumed = (make_trainer(folder=folder, **parameters) for folder in ("whole", "run", "run"))
    base = weights(whole.rag.generator)
    torch.manual_seed(0)
    whole.fit()
    step = killed.training_step

    def die(*args, **kwargs):
        if killed.state.global_step == 3:
            raise KeyboardInterrupt
        return step(*args, **kwargs)

    monkeypatch.setattr(killed, "training_step", die)
    torch.manual_seed(0)
    with pytest.raises(KeyboardInterrupt):
        killed.fit()
    for folder in ("checkpoint-2", "best-0"):
        written = load_file(tmp_path / "run" / folder / "model.safetensors")
        assert all(".lora_" in name for name in written if name.startswith("generator."))
        assert any(".lora_" in name for name in written)
    resumed.fit()
    after = weights(whole.rag.generator)
    assert any(not torch.equal(after[name], base[name]) for name in after if "lora_" in name)
    for part in ("question_encoder", "generator"):
        one, other = (weights(getattr(trainer.rag, part)) for trainer in (whole, resumed))
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_an_adapter_that_a_model_came_with_is_merged_where_all_weights_are_trained(make_trainer, tmp_path):
    trainer = make_trainer(lora_rank=2, **SMALL)
    own = trainer.rag.generator
    args = RagTrainingArguments(output_dir=str(tmp_path), lora_rank=4)
    with pytest.raises(TrainingError, match=r"lora_rank=4: .* adapter of rank 2; give lora_rank=2"):
        begin_adapter(own, args)
    args.lora_rank = 0
    begin_adapter(own, args)
    assert not own.adapters
    assert not any("lora_" in name for name in own.state_dict())


@pytest.mark.parametrize("where", [{"freeze_generator": True}, {"method": "lsr"}])
def test_an_adapter_in_a_generator_that_is_not_trained_is_refused(where):
    with pytest.raises(TrainingError, match="lora_rank=8: an adapter is for training the generator"):
        check_training({"method": "rag", "lora_rank": 8} | where)
