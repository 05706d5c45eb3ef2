"""FSDP: each process keeps a share of the weights, of their average and of the optimizer (torch's `fully_shard`).

Accelerate's launcher says that it is wanted and where the network is cut. Whatever leaves the loop is whole: states,
weights and what is evaluated are those of a run whose processes hold everything, so either kind goes on with the
other's state.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Optional

import torch
from accelerate import Accelerator
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.fsdp_utils import fsdp2_prepare_auto_wrap_policy
from timm.utils import ModelEmaV3
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, fully_shard
from torch.distributed.fsdp.wrap import size_based_auto_wrap_policy
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from recnext.errors import RecNextError


def enable_sharding(accelerator: Accelerator, plugin: FullyShardedDataParallelPlugin) -> None:
    """Remembers the launcher's configuration in the engine, which on the CPU does not know it.

    Raises:
        RecNextError: it asks for what the loop cannot do.
    """
    refused = {
        "fsdp_version: 1": (plugin.fsdp_version != 2, "set it to 2, weights are then cut one by one"),
        "fsdp_offload_params": (
            isinstance(plugin.cpu_offload, CPUOffloadPolicy),
            "leave it out, clipping needs the weights on their GPU",
        ),
        "fsdp_activation_checkpointing": (
            plugin.activation_checkpointing,
            "leave it out, BatchNorm would count each image twice",
        ),
        "fsdp_ignored_modules": (plugin.ignored_modules, "leave it out, their gradients would not be shared"),
        "fsdp_auto_wrap_policy: SIZE_BASED_WRAP": (
            plugin.auto_wrap_policy is size_based_auto_wrap_policy,
            "take TRANSFORMER_BASED_WRAP with the class of the blocks, as sizes cut inside of token mixers",
        ),
        "a parallelism_config": (accelerator.parallelism_config, "leave it out, all processes share the batch"),
    }
    for name, (asked, fix) in refused.items():
        if asked:
            raise RecNextError(f"accelerate was started with FSDP and {name}: {fix}")
    accelerator.state.fsdp_plugin = plugin


def is_sharded(accelerator: Accelerator) -> bool:
    """Whether networks are to be cut."""
    return distributed.is_initialized() and _plugin(accelerator) is not None


def _plugin(accelerator: Accelerator) -> Optional[FullyShardedDataParallelPlugin]:
    return getattr(accelerator.state, "fsdp_plugin", None)


def shard(model: nn.Module, accelerator: Accelerator) -> None:
    """Cuts each weight along its first dimension, in place.

    Args:
        model: on its device; every process has the same weights. The blocks that the launcher's configuration names
            are gathered one after the other in a step, the rest at once.
        accelerator: for which `is_sharded`.

    Raises:
        RecNextError: the network has no block of that name.
    """
    plugin = _plugin(accelerator)
    assert plugin is not None
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    try:
        is_block = fsdp2_prepare_auto_wrap_policy(plugin, model) or (lambda _: False)
    except ValueError as error:
        names = sorted({type(module).__name__ for module in model.modules() if list(module.children())})
        raise RecNextError(f"fsdp_transformer_layer_cls_to_wrap: {error} It has {', '.join(names)}") from None
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    _, *inner = model.modules()
    for module in reversed(inner):
        if is_block(module):
            fully_shard(module, mesh=mesh, reshard_after_forward=plugin.reshard_after_forward)
    fully_shard(model, mesh=mesh, reshard_after_forward=False)


class ShardedAverage(ModelEmaV3):
    """timm's average of weights, of the shares that a process keeps."""

    def apply_update_(self, model: nn.Module, decay: float) -> None:
        """One step towards `model`; both are cut alike."""
        average, now = (
            [value.to_local() if isinstance(value, DTensor) else value for value in module.state_dict().values()]
            for module in (self.module, model)
        )
        real = [value.is_floating_point() for value in average]
        chosen = [[value for value, is_real in zip(side, real, strict=True) if is_real] for side in (average, now)]
        self._foreach_lerp_(*chosen, weight=1 - decay)
        for old, new, is_real in zip(average, now, real, strict=True):
            if not is_real:
                old.copy_(new)


@contextmanager
def gathered(model: nn.Module, accelerator: Accelerator) -> Iterator[None]:
    """Within, every process has the whole network and may run it as often as it likes, whatever the others do."""
    parts = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        plugin = _plugin(accelerator)
        for part in parts:
            part.reshard()
            if part is not model and plugin is not None:
                part.set_reshard_after_forward(plugin.reshard_after_forward, recurse=False)


def without_sync(
    model: nn.Module, raw: nn.Module, accelerator: Accelerator, *, last: bool
) -> AbstractContextManager[None]:
    """Around a batch of a step's: gradients stay in the process until the `last` one.

    Args:
        model: as `wrapped` made it.
        raw: the network itself.
        accelerator: the engine.
        last: of the step.
    """
    if isinstance(raw, FSDPModule):
        raw.set_requires_gradient_sync(last)
        return nullcontext()
    return nullcontext() if last else accelerator.no_sync(model)


def whole(value: Any) -> Any:
    """A state with its cut tensors put together, on the CPU; the rest as it is. Collective.

    Args:
        value: tensors and plain values in dicts and lists.
    """
    if isinstance(value, DTensor):
        return value.full_tensor().cpu()
    if isinstance(value, Mapping):
        return {key: whole(entry) for key, entry in value.items()}
    return [whole(entry) for entry in value] if isinstance(value, list) else value


def load_whole(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """`load_state_dict` of a state of `whole`: each process takes its share."""
    own = model.state_dict()
    model.load_state_dict({key: _share(value, own.get(key)) for key, value in state.items()})


def load_whole_optimizer(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """The same for the state of an optimizer."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    shares = {
        index: {
            name: _share(value, parameters[index]) if torch.is_tensor(value) and value.ndim else value
            for name, value in entries.items()
        }
        for index, entries in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": shares})


def _share(value: Tensor, like: Optional[Tensor]) -> Tensor:
    """This process's share of a whole tensor, cut as `like` is; every process has read the same."""
    if not isinstance(like, DTensor):
        return value
    value = value.to(like.device).contiguous()
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)
