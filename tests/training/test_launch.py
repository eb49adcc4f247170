import json

from ragtune.training.launch import finetune

FAST = {"batch_size": 8, "n_docs": 3, "temperature": 0.05, "learning_rate": 3e-3, "report_to": "none"}


def test_a_run_leaves_a_model_a_baseline_and_their_curves(world, knowledge_base_folder, tmp_path):
    results = finetune(
        world.pairs,
        knowledge_base_folder,
        tmp_path / "model",
        tmp_path / "work",
        **world.parts,
        closed_book_folder=tmp_path / "closed_book",
        tensorboard_folder=tmp_path / "tensorboard",
        max_steps=20,
        eval_steps=10,
        **FAST | {"report_to": "tensorboard"},
    )
    print(results)
    print(json.loads((tmp_path / "model" / "training_log.json").read_text()))
