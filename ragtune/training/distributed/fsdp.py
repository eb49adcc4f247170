"""FSDP: weights, gradients and the optimizer's moments in equal parts on all processes, put together layer by layer."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from ragtune.models.blocks import transformer_blocks
from ragtune.models.encoders import Encoder
from ragtune.models.pooling import Dense
from ragtune.training.trained import TrainedParts


def shard(parts: TrainedParts, device_type: str, bf16: bool = False) -> None:
    """Leave each process its part of every weight, in place; every process must call it, with the same weights.

    The layers are gathered one after the other when they compute, all else when `forward` or `encode_questions` begins.
    From then on all processes must call each layer equally often, except in `gathered`.

    Args:
        parts: to shard.
        device_type: "cuda" or "cpu".
        bf16: weights are rounded before they go to other processes, half the traffic and memory of float32. Each
            process' own part, its moments and the sums of gradients stay float32.
    """
    # Inputs stay as they are: vectors of passages, whose scores are float32, are among them.
    policy = MixedPrecisionPolicy(torch.bfloat16 if bf16 else None, torch.float32, cast_forward_inputs=False)
    mesh = init_device_mesh(device_type, (dist.get_world_size(),))
    for layer in dict.fromkeys(transformer_blocks(parts)):  # two encoders may share them
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(
        parts, mesh=mesh, mp_policy=policy, reshard_after_forward=True
    )  # else it would stay whole after encode_questions
    for method in ("encode_questions", "ready"):
        register_fsdp_forward_method(parts, method)
    parts.ready()


@contextmanager
def gathered(module: nn.Module) -> Iterator[None]:
    """Inside, every process has all weights and may compute as often as it likes; every process must enter and leave.

    For generation, which takes some processes more steps than others. Nothing happens to a module that is not sharded.
    """
    units = [unit for unit in module.modules() if isinstance(unit, FSDPModule)]
    for unit in units:
        unit.set_reshard_after_forward(False, recurse=False)
        unit.unshard()
    try:
        yield
    finally:
        for unit in units:
            unit.set_reshard_after_forward(True, recurse=False)
            unit.reshard()


def full_state(module: nn.Module, keep: bool = True, frozen: bool = True) -> dict[str, Tensor]:
    """As `state_dict`, with whole tensors and tied ones once; without `frozen`, only what learns and buffers.

    Every process must call it for a sharded module; those that do not `keep` it get nothing to fill their memory.
    """
    left_out = _tied(module) | (set() if frozen else _frozen(module))
    whole = ((name, _full(value)) for name, value in module.state_dict().items() if name not in left_out)
    return {name: value.contiguous() for name, value in whole if keep}


def load_full_state(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Take over, in place, what `full_state` gave: of a sharded module, each process its own part.

    Frozen weights that are not in `state` stay as they are.

    Raises:
        KeyError: names are missing or unknown.
        RuntimeError: a tensor has another shape.
    """
    tied = _tied(module)
    own = {name: value for name, value in module.state_dict().items() if name not in tied}
    if differing := (own.keys() - _frozen(module)) - state.keys() | state.keys() - own.keys():
        raise KeyError(*sorted(differing)[:3])
    for name in state:
        value = own[name]
        if value.shape != state[name].shape:
            raise RuntimeError(f"{name} is {tuple(state[name].shape)}, not {tuple(value.shape)}")
        value.copy_(_cut(state[name], value) if isinstance(value, DTensor) else state[name])


def _tied(module: nn.Module) -> set[str]:
    """Further names of tensors that have one already."""
    everything, once = (dict(module.named_parameters(remove_duplicate=remove)) for remove in (False, True))
    return everything.keys() - once.keys()


def _frozen(module: nn.Module) -> set[str]:
    return {name for name, parameter in module.named_parameters() if not parameter.requires_grad}


def make_whole(parts: TrainedParts) -> None:
    """Give every module its whole weights as ordinary parameters on the CPU, for good; every process must call it.

    For saving them: a sharded module cannot train after it; one that is not sharded is left as it is.
    """
    whole: dict[nn.Parameter, nn.Parameter] = {}  # tied ones stay tied
    for module in parts.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if isinstance(parameter, DTensor):
                if parameter not in whole:
                    whole[parameter] = nn.Parameter(_full(parameter), parameter.requires_grad)
                setattr(module, name, whole[parameter])


def whole_encoder(encoder: Encoder, keep: bool = True) -> Encoder | None:
    """An encoder that computes without the other processes; None in those that do not `keep` it.

    Of a sharded one, for which every process must call it, another one of the same weights on the CPU; else itself.
    """
    if not any(isinstance(parameter, DTensor) for parameter in encoder.parameters()):
        return encoder if keep else None
    state, dense_state = full_state(encoder.backbone, keep), full_state(encoder.dense, keep)
    if not keep:
        return None
    with torch.random.fork_rng(devices=[]):  # first weights are drawn, which must not change the training's dropout
        backbone = type(encoder.backbone)(encoder.backbone.config)
        dense = [layer.untrained() for layer in encoder.dense if isinstance(layer, Dense)]
    whole = Encoder(backbone, encoder.tokenizer, encoder.pooling, encoder.name, dense).eval()
    load_full_state(whole.backbone, state)
    load_full_state(whole.dense, dense_state)
    return whole


def full_optimizer_state(optimizer: Optimizer, keep: bool = True) -> dict[str, Any]:
    """As `state_dict`, with whole tensors; called and kept as `full_state`."""
    state = optimizer.state_dict()
    whole: dict[int, dict[str, Any]] = {}
    for number, values in state["state"].items():
        full = {name: _full(value) for name, value in values.items()}
        if keep:
            whole[number] = full
    return state | {"state": whole}


def load_full_optimizer_state(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Take over what `full_optimizer_state` gave: each process its own part."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    own = {
        number: {name: _as(parameters[number], value) for name, value in values.items()}
        for number, values in state["state"].items()
    }
    optimizer.load_state_dict(state | {"state": own})


def _as(parameter: nn.Parameter, value: Any) -> Any:
    """A moment, which has the parameter's shape, cut as it is; anything else, such as the count of steps, as it is."""
    if isinstance(parameter, DTensor) and isinstance(value, Tensor) and value.shape == parameter.shape:
        return _cut(value, parameter)
    return value


def _cut(value: Tensor, like: DTensor) -> DTensor:
    value = value.to(like.device)
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)


def _full(value: Any) -> Any:
    return value.full_tensor().detach().cpu() if isinstance(value, DTensor) else value
