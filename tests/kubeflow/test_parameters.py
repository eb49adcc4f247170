from pathlib import Path

import pytest

from pipeline import main, rag_finetuning
from ragtune.errors import ParameterError, RagtuneError, TrainingError
from ragtune.kubeflow.local_run import run_here
from ragtune.kubeflow.parameters import check_installed, check_values, read_parameters, with_defaults

DEMO = Path(__file__).parents[2] / "params" / "demo.yaml"


def pipeline(questions: str, max_steps: int = 10, learning_rate: float = 1e-3, options: dict = {}):  # noqa: B006
    pass


def parameters(tmp_path, text, *assignments):
    file = tmp_path / "params.yaml"
    file.write_text(text)
    return read_parameters(pipeline, file, assignments)


def test_the_command_line_overrides_the_file(tmp_path):
    values = parameters(tmp_path, "questions: a.jsonl\nmax_steps: 5\n", "max_steps=7", "learning-rate=1e-4")
    assert values == {"questions": "a.jsonl", "max_steps": 7, "learning_rate": 1e-4}
    assert type(values["max_steps"]) is int


def test_a_number_is_a_valid_text(tmp_path):
    assert parameters(tmp_path, "questions: 2026\n")["questions"] == "2026"


@pytest.mark.parametrize("given", ['{"seed": 1, "tf32": true}', "{seed: 1, tf32: true}"])
def test_a_mapping_may_be_written_as_json_or_yaml(tmp_path, given):
    expected = {"questions": "a", "options": {"seed": 1, "tf32": True}}
    assert parameters(tmp_path, "questions: a\n", f"options={given}") == expected
    assert parameters(tmp_path, f"questions: a\noptions: {given}\n") == expected


@pytest.mark.parametrize(
    ("text", "assignment", "message"),
    [
        ("questions: a\nmax_step: 5\n", "max_steps=1", "max_step; did you mean max_steps"),
        ("questions: a\n", "zzz=1", "no parameter is called zzz; there are: questions"),
        ("max_steps: 5\n", "max_steps=1", "needs a value for questions"),
        ("questions: a\n", "max_steps=many", "max_steps: 'many' is not a value of type int"),
        ("questions: a\nmax_steps: 1.5\n", "questions=b", "1.5 is not a value of type int"),
        ("questions: a\n", "options=[1]", "options: [1] is no mapping"),
        ("questions: a\n", "options={1: 2}", "options: {1: 2} is no mapping of names"),
        ("questions: a\n", "questions=caf\udce9", "is not UTF-8; rename the file"),
        ("questions: a\n", "options={", "options: '{' is no mapping"),
        ("questions: [a, b]\n", "max_steps=1", "is not a value of type str"),
        ("questions:\n", "max_steps=1", "None is not a value"),
        ("questions: a\n", "max_steps", "write it as --set name=value"),
        ("- a\n", "max_steps=1", "lines of `name: value`"),
        ("a: b: c\n", "max_steps=1", "not YAML"),
        ("questions: a\n1: 2\n", "max_steps=1", "the name 1 is of type int; names are texts"),
        ("questions: a\nyes: 2\n", "max_steps=1", "the name True is of type bool"),
    ],
)
def test_a_bad_parameter_is_named(tmp_path, text, assignment, message):
    with pytest.raises(ParameterError, match=message.replace("[", r"\[")):
        parameters(tmp_path, text, assignment)


def test_names_of_kfp_are_understood_and_no_parameter_is_given_by_both(tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text("data_questions: a\nknowledge_corpus: b\nmax_steps: 5\n")
    values = read_parameters(rag_finetuning.pipeline_func, file, ["train_max_steps=7", "train-n-docs=3"])
    assert values == {"questions": "a", "corpus": "b", "max_steps": 7, "n_docs": 3}
    file.write_text("max_steps: 5\ntrain_max_steps: 6\n")
    with pytest.raises(ParameterError, match="train_max_steps and max_steps are one parameter"):
        read_parameters(rag_finetuning.pipeline_func, file)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(ParameterError, match=r"nowhere\.yaml: no such parameter file"):
        read_parameters(pipeline, tmp_path / "nowhere.yaml")


def test_a_folder_is_no_parameter_file(tmp_path):
    with pytest.raises(ParameterError, match=r"cannot be read \(Is a directory\); give a YAML file"):
        read_parameters(pipeline, tmp_path)


def complete(**values):
    return with_defaults(rag_finetuning.pipeline_func, {"questions": "a", "corpus": "b", **values})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("num_beams", 0, "num_beams=0: must be at least 1"),
        ("answerable_k", 0, "answerable_k=0: must be at least 1"),
        ("max_answer_tokens", 3, "max_answer_tokens=3: must be at least 4"),
        ("batch_size", 0, "batch_size=0: must be at least 1"),
        ("n_docs", 0, "n_docs=0: must be at least 1"),
        ("learning_rate", 0.0, "learning_rate=0.0: must be greater than 0"),
        ("temperature", float("nan"), "temperature=nan: must be a finite number"),
        ("learning_rate", float("inf"), "learning_rate=inf: must be a finite number"),
        ("n_docs", 20_000, "n_docs=20000: must be at least 1 and at most 16384"),
        ("answerable_k", 20_000, "answerable_k=20000: must be at least 1 and at most 16384"),
        ("max_questions", -1, "max_questions=-1: must be at least 0"),
        ("max_steps", -2, "max_steps=-2: must be at least -1"),
        ("seed", 2**32, "seed=4294967296: must be at least 0 and at most 4294967295"),
        ("refresh_device", "the second", "refresh_device='the second': must be devices, such as cuda:0"),
        ("test_fraction", 1.5, "test_fraction=1.5: must be at least 0 and below 1"),
        ("test_fraction", 0.0, "test_fraction=0: leaves no test questions; give more, or test_questions"),
        ("test_fraction", 0.96, "validation_fraction + test_fraction = 1.01: nothing is left to train on"),
        ("validation_fraction", 0.0, "validation_fraction=0: leaves no validation questions; give more, or validation"),
        ("max_rejected_fraction", 2.0, "max_rejected_fraction=2.0: must be at least 0 and at most 1"),
        ("max_answer_words", 0, "max_answer_words=0: must be at least 1"),
        ("question_layout", "nope", 'no layout "nope"; there are auto, nq-original'),
        ("knowledge_base", "../../evil", 'knowledge base name "../../evil": only letters, digits and _'),
        ("index", "IVF", 'index "IVF": choose one of auto, HNSW, FLAT'),
        ("milvus_uri", "127.0.0.1:19530", "127.0.0.1:19530: is no URI of a Milvus server"),
        ("milvus_uri", "http://milvus:many", "http://milvus:many: is no URI of a Milvus server"),
        ("milvus_uri", "ftp://milvus", "ftp://milvus: is no URI of a Milvus server"),
        (
            "training_options",
            {"fully_shardd": True},
            "training_options: no fully_shardd; did you mean fully_shard",
        ),
        (
            "training_options",
            {"work_folder": "x"},
            "training_options: no work_folder; there are: early_stopping_patience, ",
        ),
        ("training_options", {"fully_shard": "yes"}, "fully_shard='yes' is not a value of type bool"),
        ("generator", " ", "generator=' ': must be given, not empty"),
        ("train_memory", "lots", "train_memory='lots': must be an amount of memory, such as 64Gi"),
        ("workspace_volume", "My Volume", "workspace_volume='My Volume': must be the name of a volume claim"),
        ("method", "rog", "method='rog': must be one of rag, rag-token, rag-end2end"),
        ("max_steps", 0, "max_steps=0: give a number of steps"),
        ("max_staleness", 5, "max_staleness=5: the knowledge base is rebuilt every refresh_every=100 steps only"),
        ("training_options", {"eval_num_beams": 0}, "eval_num_beams=0: must be at least 1"),
        ("training_options", {"n_docs": 3}, "n_docs is a parameter of the pipeline itself"),
        ("adam_beta2", 1.5, "adam_beta2=1.5: must be at least 0 and below 1"),
        ("gpus", "-1", "gpus='-1': must be a whole number"),
        ("embed_cpus", "four", "embed_cpus='four': must be a number of processors"),
        ("prompt", "{question}", 'prompt "{question}": {title} must be in it'),
        ("question_layout", "nq-openn", 'no layout "nq-openn"; there are auto, nq-original'),
        ("quoting", "all", 'quoting "all": must be one of auto, none, minimal'),
        ("split_by", "url", "split_by=url: must be one of question, title, gold"),
        ("model_name", "a/b", 'model name "a/b"'),
        ("tracking_uri", "file:runs", 'tracking URI "file:runs"'),
        ("model_registry_url", "registry", 'Kubeflow Model Registry "registry"'),
    ],
)
def test_what_a_late_box_would_refuse_is_refused_at_once(name, value, message):
    with pytest.raises(RagtuneError) as raised:
        check_values(complete(**{name: value}))
    assert message in str(raised.value)


@pytest.mark.parametrize(
    "strategy, message",
    [
        ({"strategy": "FedFoo"}, "strategy=FedFoo: Flower has none of that name"),
        ({"strategy_options": {"proximal_mu": 1}}, "strategy_options: FedAvg takes no proximal_mu"),
    ],
)
def test_a_strategy_that_flower_does_not_have_is_refused_at_once(strategy, message, monkeypatch):
    wrong = complete(method="federated", method_options=strategy)
    with pytest.raises(TrainingError, match=message):
        check_values(wrong)
    monkeypatch.setattr("ragtune.kubeflow.parameters.find_spec", lambda module: None)
    check_values(wrong)  # as in the data image, which has no Flower


@pytest.mark.parametrize(
    "values, message",
    [
        ({"method": "federated"}, r"method=federated needs flwr, which is not installed: pip install .ragtune\[fed"),
        ({"method": "retriever"}, r"method=retriever needs sentence_transformers, .*'ragtune\[retriever\]'"),
        ({"retrieval": "ray"}, r"retrieval=ray needs ray, .*'ragtune\[ray\]'"),
        ({"embed_on": "ray"}, r"embed_on=ray needs ray, .*'ragtune\[ray\]'"),
        ({"training_options": {"lora_rank": 4}}, r"lora_rank needs peft, .*'ragtune\[lora\]'"),
    ],
)
def test_what_is_not_installed_is_named_before_a_run(values, message, monkeypatch):
    check_installed(complete(**values))
    monkeypatch.setattr("ragtune.kubeflow.parameters.find_spec", lambda module: None)
    check_installed(complete())
    with pytest.raises(ParameterError, match=message):
        check_installed(complete(**values))


def test_a_run_without_its_package_makes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("ragtune.kubeflow.parameters.find_spec", lambda module: None)
    output = tmp_path / "run"
    assert main(["run", "--params", str(DEMO), "--set", "retrieval=ray", "--output", str(output)]) == 1
    assert "error: retrieval=ray needs ray" in capsys.readouterr().err
    assert not output.exists()


def test_a_run_makes_nothing_of_such_a_value(tmp_path, capsys):
    command = ["run", "--params", str(DEMO), "--set", "num_beams=0", "--output", str(tmp_path / "run")]
    assert main(command) == 1
    assert "error: num_beams=0: must be at least 1" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "uri"),
    [
        ("questions", "https://bucket.s3.amazonaws.com/q.jsonl?X-Amz-Signature=s3cr3t"),
        ("corpus", "https://account.blob.core.windows.net/c/q.jsonl?sv=1&sig=s3cr3t"),
        ("validation_questions", "ftp://me:s3cr3t@host/q.jsonl"),
        ("test_questions", "https://me:a/s3cr3t@host/q.jsonl"),
        ("milvus_uri", "http://root:s3cr3t@127.0.0.1:19530"),
        ("tracking_uri", "postgresql://me:s3cr3t@host/mlflow"),
        ("model_registry_url", "http://me:s3cr3t@host"),
    ],
)
def test_a_secret_in_a_uri_is_refused_before_anything_is_written(tmp_path, capsys, name, uri):
    command = ["run", "--params", str(DEMO), "--set", f"{name}={uri}", "--output", str(tmp_path / "run")]
    assert main(command) == 1
    printed = "".join(capsys.readouterr())
    assert f"{name}=" in printed
    assert "holds a secret" in printed
    assert "docs/data.md" in printed
    assert "s3cr3t" not in printed
    assert list(tmp_path.iterdir()) == []


def test_a_run_from_python_writes_no_secret_either(tmp_path):
    with pytest.raises(ParameterError, match="holds a secret"):
        run_here(rag_finetuning, {"questions": "https://host/q?sig=s3cr3t", "corpus": "c"}, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_secret_among_the_training_options_is_refused():
    with pytest.raises(ParameterError, match=r"x\[0\]=http://\*\*\*@host: holds a secret"):
        check_values(complete(training_options={"x": ["http://me:s3cr3t@host"]}))


def test_the_defaults_pass():
    check_values(complete())


def test_fractions_of_questions_that_come_from_files_of_their_own_are_not_looked_at():
    check_values(complete(test_questions="c", test_fraction=0.0, validation_questions="d", validation_fraction=0.0))


def test_options_that_kfp_hands_on_as_floats_pass():
    check_values(complete(training_options={"max_eval_questions": 20.0, "fully_shard": True, "weight_decay": "1e-2"}))
