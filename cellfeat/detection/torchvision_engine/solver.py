"""Optimiser, learning rate and gradient clipping as Detectron2's SOLVER section means them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from fvcore.common.config import CfgNode
from fvcore.common.param_scheduler import (
    CompositeParamScheduler,
    ConstantParamScheduler,
    CosineParamScheduler,
    LinearParamScheduler,
    MultiStepParamScheduler,
    ParamScheduler,
)
from torch import nn

NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.SGD:
    """SGD with momentum; norms and biases with their own weight decay (and biases their own rate)."""
    solver = cfg.SOLVER
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            factor, decay = 1.0, solver.WEIGHT_DECAY
            if isinstance(module, NORMS):
                decay = solver.WEIGHT_DECAY_NORM
            if name == "bias":
                factor = solver.BIAS_LR_FACTOR
                decay = decay if solver.WEIGHT_DECAY_BIAS is None else solver.WEIGHT_DECAY_BIAS
            groups.setdefault((factor, decay), []).append(parameter)
    return torch.optim.SGD(
        [
            {"params": parameters, "lr": solver.BASE_LR * factor, "lr_factor": factor, "weight_decay": decay}
            for (factor, decay), parameters in groups.items()
        ],
        lr=solver.BASE_LR,
        momentum=solver.MOMENTUM,
        nesterov=solver.NESTEROV,
    )


def learning_rate(cfg: CfgNode) -> Callable[[int], float]:
    """Iteration → learning rate: warm-up, then steps or a cosine."""
    solver = cfg.SOLVER
    schedule: ParamScheduler
    if solver.LR_SCHEDULER_NAME == "WarmupCosineLR":
        schedule = CosineParamScheduler(1, solver.BASE_LR_END / solver.BASE_LR)
    else:
        steps = [step for step in solver.STEPS if step <= solver.MAX_ITER]
        values = [solver.GAMMA**k for k in range(len(steps) + 1)]
        schedule = MultiStepParamScheduler(values, milestones=steps, num_updates=solver.MAX_ITER)
    length = min(solver.WARMUP_ITERS / solver.MAX_ITER, 1.0)
    if length > 0:
        start = solver.WARMUP_FACTOR * schedule(0.0)
        end = schedule(0.0 if solver.RESCALE_INTERVAL else length) if length < 1 else schedule(1 - 1e-9)
        warmup = LinearParamScheduler(start, end) if solver.WARMUP_METHOD == "linear" else ConstantParamScheduler(start)
        if length < 1:
            schedule = CompositeParamScheduler(
                [warmup, schedule],
                lengths=[length, 1 - length],
                interval_scaling=["rescaled", "rescaled" if solver.RESCALE_INTERVAL else "fixed"],
            )
        else:
            schedule = warmup
    return lambda iteration: solver.BASE_LR * schedule(min(iteration / solver.MAX_ITER, 1 - 1e-9))


def clip_gradients(cfg: CfgNode, model: nn.Module) -> None:
    """Clip each parameter's gradient by itself, by value or by norm, as Detectron2 does."""
    clip = cfg.SOLVER.CLIP_GRADIENTS
    if not clip.ENABLED:
        return
    for parameter in model.parameters():
        if parameter.grad is None:
            continue
        if clip.CLIP_TYPE == "value":
            torch.nn.utils.clip_grad_value_(parameter, clip.CLIP_VALUE)
        else:
            torch.nn.utils.clip_grad_norm_(parameter, clip.CLIP_VALUE, clip.NORM_TYPE)
