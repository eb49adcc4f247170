import pytest
import yaml

from ragtune.errors import ClusterError, ParameterError
from ragtune.kubeflow.connection import connect
from ragtune.kubeflow.failures import RefusedError
from ragtune.kubeflow.package import Package, upload


def changed(package, seconds):
    """The same pipeline with another description, for another content."""
    documents = list(yaml.safe_load_all(package.text))
    documents[0]["pipelineInfo"]["description"] = f"of {seconds}"
    spec = {"pipeline_spec": documents[0], "platform_spec": documents[1]}
    return Package("---\n".join(map(yaml.safe_dump, documents)), spec)


def test_the_compiled_pipeline_is_accepted_with_its_boxes(compiled, server, connection):
    version = upload(connection, compiled)
    assert version.uploaded and version.name == "rag-finetuning"
    assert len(server.versions) == 1
    assert {"check-inputs", "finetune-rag", "evaluate-rag"} <= set(compiled.boxes())


def test_the_same_content_is_the_same_version_and_new_content_a_new_one(package, server, connection):
    first = upload(connection, package)
    again = upload(connection, package)
    assert (again.version_id, again.uploaded) == (first.version_id, False)
    other = changed(package, 1)
    second = upload(connection, other)
    assert second.uploaded and second.name == f"rag-finetuning-{other.digest[:12]}"
    assert upload(connection, other).version_id == second.version_id
    assert upload(connection, package).version_id == first.version_id
    assert len(server.versions) == 2


def test_older_versions_than_those_compared_are_found_by_their_name(package, server, connection, monkeypatch):
    monkeypatch.setattr("ragtune.kubeflow.package._COMPARED", 1)
    upload(connection, package)
    old = upload(connection, changed(package, 1))
    upload(connection, changed(package, 2))
    assert upload(connection, changed(package, 1)).version_id == old.version_id


def test_what_has_to_be_the_newest_is_uploaded_again_behind_others(package, server, connection):
    first = upload(connection, changed(package, 1))
    upload(connection, changed(package, 2))
    assert upload(connection, changed(package, 1)).version_id == first.version_id
    newest = upload(connection, changed(package, 1), newest=True)
    assert newest.uploaded
    assert max(server.versions.values(), key=lambda one: one["created_at"])["name"] == newest.name


def test_a_pipeline_goes_into_its_users_namespace(package, server):
    server.multi_user = True
    upload(connect(server.host, namespace="mine"), package)
    assert [one["namespace"] for one in server.pipelines.values()] == ["mine"]


def test_an_upload_that_the_server_refuses_says_what_it_refuses(package, server, connection):
    broken = Package(package.text.replace("schemaVersion: 2.1.0", "schemaVersion: 1.0.0"), package.spec)
    with pytest.raises(RefusedError, match=r"uploading the pipeline .* 400, Unsupported schema version"):
        upload(connection, broken)
    server.faults["POST /apis/v2beta1/pipelines/upload"] = (409, '{"error_message": "Already exists"}')
    with pytest.raises(ClusterError, match="409, Already exists; there is one of that name"):
        upload(connection, package)


@pytest.mark.parametrize("text", ["a: [", "schemaVersion: 2.0.0", "- 1", ""])
def test_a_file_that_is_no_compiled_pipeline_is_refused(tmp_path, text):
    (tmp_path / "it.yaml").write_text(text)
    with pytest.raises(ParameterError, match=r"it.yaml: .*python pipeline.py compile"):
        Package.read(tmp_path / "it.yaml")


def test_boxes_inside_conditions_and_exit_handlers_count():
    component = {"componentRef": {"name": "comp-box"}}
    components = {"comp-box": {"executorLabel": "exec-box"}, "comp-exit": {"dag": {"tasks": {"inner": component}}}}
    root = {"dag": {"tasks": {"outer": component, "exit-handler-1": {"componentRef": {"name": "comp-exit"}}}}}
    assert Package("", {"components": components, "root": root}).boxes() == ["outer", "inner"]
