import torch
from torch import nn

from ragtune.models.generators import likelihood
from ragtune.models.generators.likelihood import groups_of_like_length, known_lengths, label_places, output_only_at


def test_the_output_layer_sees_only_the_places_inside_the_block():
    layer, states = nn.Linear(3, 5), torch.arange(24.0).reshape(2, 4, 3)
    with output_only_at(torch.tensor([1, 6]), states.shape[:-1], layer):
        inside = layer(states)
    torch.testing.assert_close(inside, layer(states).flatten(0, 1)[[1, 6]])
    assert layer(states).shape == (2, 4, 5)


def test_rows_of_like_length_share_a_pass_and_none_is_lost(monkeypatch):
    monkeypatch.setattr(likelihood, "_TOKENS_ON_CPU", 8)
    lengths = [2, 5, 1, 4, 2]
    mask = torch.tensor([[1] * length + [0] * (5 - length) for length in lengths])
    groups = groups_of_like_length(mask, nn.Linear(1, 1))
    assert groups == [([1], 5), ([3, 0], 4), ([4, 2], 2)]
    together = groups_of_like_length(mask[:1, :2], nn.Linear(1, 1))
    assert together == [([0], 2)]


def test_lengths_known_on_the_host_give_the_same_groups_and_places(monkeypatch):
    monkeypatch.setattr(likelihood, "_TOKENS_ON_CPU", 8)
    mask = torch.tensor([[1, 1, 0], [1, 1, 1], [1, 0, 0]])
    labels = torch.tensor([[5, 6], [7, -100], [-100, 8]])
    known = known_lengths({"context_attention_mask": mask, "labels": labels})
    assert known == {"context_lengths": [2, 3, 1], "answer_lengths": [2, 1, 1]}
    layer = nn.Linear(1, 1)
    assert groups_of_like_length(mask, layer, known["context_lengths"]) == groups_of_like_length(mask, layer)
    assert label_places(labels, 4).tolist() == (labels != -100).flatten().nonzero().flatten().tolist()
    assert known_lengths({"labels": labels}) == {}
