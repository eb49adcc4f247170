import pytest

import pipeline
from ragtune.errors import ParameterError
from ragtune.kubeflow.images import images_of, set_images, without_registry
from ragtune.kubeflow.package import Package

COMPILED = pipeline.COMPILED.read_text(encoding="utf-8")
DIGEST = "sha256:" + "0123456789abcdef" * 4
TEXT = "  a:\n    image: ragtune-data:0.1.0\n  b:\n    image: ragtune-train:0.1.0\n  image:\n    description: x\n"


def test_registry_and_tag_are_those_given():
    text = set_images(COMPILED, "registry.example.org/me", "1.2.3")
    assert images_of(text) == [
        "registry.example.org/me/ragtune-data:1.2.3",
        "registry.example.org/me/ragtune-train:1.2.3",
    ]
    assert text.count("\n") == COMPILED.count("\n")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ["ragtune-data:0.1.0", "ragtune-train:0.1.0"]),
        ({"registry": "localhost:5000/"}, ["localhost:5000/ragtune-data:0.1.0", "localhost:5000/ragtune-train:0.1.0"]),
        ({"tag": "abc"}, ["ragtune-data:abc", "ragtune-train:abc"]),
        (
            {"registry": "r.io/a", "named": [f"ragtune-train=other.io/train@{DIGEST}"]},
            [f"other.io/train@{DIGEST}", "r.io/a/ragtune-data:0.1.0"],
        ),
        ({"named": ["ragtune-data=quay.io/me/data:7"]}, ["quay.io/me/data:7", "ragtune-train:0.1.0"]),
    ],
)
def test_what_is_not_given_stays(given, expected):
    assert images_of(set_images(TEXT, **given)) == expected


def test_one_by_digest_can_be_moved_to_another_registry():
    once = set_images(TEXT, named=[f"ragtune-data=a.io/ragtune-data@{DIGEST}"])
    assert f"b.io/ragtune-data@{DIGEST}" in images_of(set_images(once, "b.io"))
    assert without_registry(once) == ["ragtune-train:0.1.0"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"registry": "https://registry.example.org"}, "--registry https://registry.example.org: is no registry"),
        ({"registry": "a b"}, "is no registry"),
        ({"tag": "latest"}, "the tag latest moves"),
        ({"tag": "a/b"}, "is no tag"),
        ({"named": ["train=r.io/t:1"]}, "the pipeline has no such image; it has ragtune-data, ragtune-train"),
        ({"named": ["ragtune-train"]}, "write it as NAME=registry/name:tag"),
        ({"named": ["ragtune-train=r.io/t"]}, "the tag latest moves"),
        ({"named": ["ragtune-train=r.io/t:latest"]}, "the tag latest moves"),
        ({"named": ["ragtune-train=r.io/t@sha256:12"]}, "write it as NAME="),
    ],
)
def test_images_that_are_not_possible_are_refused(given, told):
    with pytest.raises(ParameterError, match=told):
        set_images(TEXT, **given)


def test_compile_writes_them_beside_what_is_committed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    target, wanted = (
        tmp_path / "rag_finetuning.yaml",
        ["compile", "--registry", "registry.example.org/me", "--tag", "1.2.3"],
    )
    assert pipeline.main(wanted) == 0
    assert images_of(target.read_text()) == [
        "registry.example.org/me/ragtune-data:1.2.3",
        "registry.example.org/me/ragtune-train:1.2.3",
    ]
    executors = Package.read(target).pipeline["deploymentSpec"]["executors"].values()
    assert {one["container"]["image"] for one in executors} == set(images_of(target.read_text()))
    assert pipeline.main([*wanted, "--check"]) == 0
    assert pipeline.main(["compile", "--registry", "registry.example.org/you", "--check"]) == 1
    assert pipeline.COMPILED.read_text(encoding="utf-8") == COMPILED
