from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ragtune.federation.curves import Curves


def test_a_round_has_a_curve_for_all_sites_and_for_each(tmp_path):
    sites = {"berlin": {"em": 0.5, "questions": 20}, "oslo": {"em": 0.25, "train_loss": 2.0}}
    curves = Curves(tmp_path)
    for number in (1, 2):
        curves.add({"round": number, "sites": sites, "failed": {"rome": "dead"}, "metrics": {"em": 0.4}})
    curves.close()
    read = EventAccumulator(str(tmp_path)).Reload()
    names = {"em", "em/berlin", "em/oslo", "train_loss/oslo", "failed_sites"}
    assert set(read.Tags()["scalars"]) == {f"federation/{name}" for name in names}
    assert [(event.step, event.value) for event in read.Scalars("federation/em/berlin")] == [(1, 0.5), (2, 0.5)]
