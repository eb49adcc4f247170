"""Progress in the TrainJob's status, by transformers' own callback, whatever `report_to` says."""

import pytest


@pytest.mark.parametrize("report_to", ["none", "tensorboard"])
def test_the_trainjobs_status_tells_progress_and_metrics(kubernetes, make_trainer, tmp_path, monkeypatch, report_to):
    kubernetes.jobs["it"] = {}
    (tmp_path / "token").write_text("of the pod")
    monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_URL", f"{kubernetes.host}/status/it")
    monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_TOKEN", str(tmp_path / "token"))
    trainer = make_trainer(
        closed_book=True,
        max_steps=2,
        n_docs=2,
        temperature=1.0,
        report_to=report_to,
        logging_steps=1,
        eval_strategy="no",
        use_cpu=True,
    )
    trainer.fit()
    status = kubernetes.jobs["it"]["status"]["trainerStatus"]
    assert status["progressPercentage"] == 100
    assert "loss" in {metric["name"] for metric in status["metrics"]}
