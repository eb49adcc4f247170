"""deploy/ gives a step the rights that a TrainJob takes, and a runtime that it accepts."""

from pathlib import Path

import pytest
import yaml

from ragtune.errors import ClusterError

DEPLOY = Path(__file__).parents[3] / "deploy"


def objects(name, kind):
    found = yaml.safe_load_all((DEPLOY / name).read_text(encoding="utf-8"))
    return [each for each in found if each["kind"] == kind]


class NotIn:
    """Requests, each "verb kind", that no rule allows, as `KubernetesServer.denied`; `met` are those that came."""

    def __init__(self, rules):
        self.rules, self.met = rules, []

    def __contains__(self, request):
        verb, kind = request.split()
        if not any(verb in rule["verbs"] and kind in rule["resources"] for rule in self.rules):
            self.met.append(request)
        return request in self.met


@pytest.fixture
def rules():
    roles = objects("base/trainjobs.yaml", "Role") + objects("trainer/readers.yaml", "ClusterRole")
    return [rule for role in roles for rule in role["rules"]]


def test_the_roles_are_enough_for_a_whole_training_and_the_runtime_is_accepted(kubernetes, step, trains, rules):
    (kubernetes.runtimes["ragtune"],) = objects("trainer/runtime.yaml", "ClusterTrainingRuntime")
    kubernetes.denied, kubernetes.controller = NotIn(rules), trains
    step.run(nodes=2, runtime="ragtune")
    assert step.outcome() == {"results": {"steps": 5}}
    assert kubernetes.denied.met == []


@pytest.mark.parametrize("verb", ["create", "get", "delete"])
def test_a_right_that_is_missing_is_asked_for(kubernetes, step, trains, rules, verb, capfd):
    fewer = [rule | {"verbs": [one for one in rule["verbs"] if one != verb]} for rule in rules]
    fewer += [rule for rule in rules if "trainjobs" not in rule["resources"]]
    kubernetes.denied, kubernetes.controller = NotIn(fewer), trains
    try:
        step.run()
    except ClusterError as error:
        assert "forbidden" in str(error)
    assert f"{verb} trainjobs" in kubernetes.denied.met
