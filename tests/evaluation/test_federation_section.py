from ragtune.evaluation.federation_section import federation_section

ROUNDS = [
    {"round": 0, "sites": {"oslo": {"em": 0.125, "loss": 3.0}}, "failed": {}, "metrics": {"em": 0.125, "loss": 3.0}},
    {
        "round": 1,
        "sites": {"oslo": {"train_loss": 2.5, "em": 0.25, "loss": 1.75, "own_em": 0.5}},
        "failed": {"berlin": "site berlin: its process <was> ended by SIGKILL"},
        "metrics": {"train_loss": 2.5, "em": 0.25, "loss": 1.75},
    },
]


def test_each_round_tells_its_sites_their_metrics_and_who_failed():
    section = federation_section({"round": 1, "rounds": ROUNDS})
    assert "Round 0: the base model<" in section and "Round 1, kept<" in section
    assert "<th scope=col>training loss</th><th scope=col>EM, its own</th>" in section
    assert "<th scope=row>oslo</th><td>2.500</td><td>50.0" in section
    assert "berlin</th><td class=down colspan=4>site berlin: its process &lt;was&gt; ended by SIGKILL" in section
    assert "recall@1" not in section


def test_other_trainings_have_no_such_section():
    assert federation_section({}) == ""
