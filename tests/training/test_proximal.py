import torch

from ragtune.training.proximal import Proximal

PARAMETERS = {"report_to": "none", "n_docs": 3, "temperature": 0.05, "learning_rate": 3e-3, "max_steps": 4}


def moved(trainer, start):
    return sum(float((weight - start[name]).square().sum()) for name, weight in trainer.model.named_parameters()) ** 0.5


def test_the_pull_is_the_gradient_of_the_proximal_term():
    layer = torch.nn.Linear(2, 1)
    pull = Proximal(layer, 0.5)
    start = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight += 3.0
    (0.25 * (layer.weight - start).square().sum()).backward()
    expected = layer.weight.grad.clone()
    layer.weight.grad.zero_()
    pull.on_pre_optimizer_step(None, None, None, model=layer)
    assert torch.allclose(layer.weight.grad, expected)


def test_weights_stay_nearer_to_where_they_began(make_trainer):
    distances = []
    for mu in (0.0, 1e3):
        trainer = make_trainer(folder=f"run{mu}", eval_strategy="no", **PARAMETERS)
        start = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
        trainer.add_callback(Proximal(trainer.model, mu))
        trainer.train()
        distances.append(moved(trainer, start))
    assert 0 < distances[1] < distances[0] * 0.9
