import pytest
import torch
from torch import nn

from cellfeat.detection.config import config_dir, load_config
from cellfeat.detection.torchvision_engine.solver import build_optimizer, clip_gradients, learning_rate


def config(*overrides):
    return load_config(config_dir() / "wbc_mask_rcnn_R_101_FPN.yaml", list(overrides))


def test_warm_up_then_steps():
    rate = learning_rate(config("SOLVER.WARMUP_ITERS", "100", "SOLVER.MAX_ITER", "1000", "SOLVER.STEPS", "(600, 800)"))
    assert rate(0) == pytest.approx(0.02 / 1000)
    assert rate(50) == pytest.approx(0.02 / 2, rel=0.01)
    assert [rate(i) for i in (100, 599, 600, 800, 999)] == pytest.approx([0.02, 0.02, 0.002, 0.0002, 0.0002])


def test_cosine_ends_at_its_end():
    rate = learning_rate(
        config("SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR", "SOLVER.BASE_LR_END", "0.002", "SOLVER.MAX_ITER", "1000")
    )
    assert rate(600) == pytest.approx(
        0.002 + 0.018 * (1 + torch.cos(torch.tensor(0.6 * torch.pi)).item()) / 2, rel=1e-3
    )
    assert rate(1000) == pytest.approx(0.002, rel=1e-3)


def test_norms_and_biases_have_their_own_decay_and_rate():
    model = nn.Sequential(nn.Conv2d(3, 32, 1), nn.GroupNorm(32, 32))
    optimizer = build_optimizer(config("SOLVER.BIAS_LR_FACTOR", "2.0", "SOLVER.WEIGHT_DECAY_BIAS", "0.5"), model)
    groups = {id(p): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert groups[id(model[0].weight)] == (0.02, 0.0001)
    assert groups[id(model[1].weight)] == (0.02, 0.0)
    assert groups[id(model[0].bias)] == groups[id(model[1].bias)] == (0.04, 0.5)


def test_frozen_parameters_are_left_out():
    model = nn.Linear(2, 2)
    model.weight.requires_grad_(False)
    assert sum(len(group["params"]) for group in build_optimizer(config(), model).param_groups) == 1


@pytest.mark.parametrize(("kind", "expected"), [("value", [0.5, 0.5]), ("norm", [0.3, 0.4])])
def test_each_gradient_is_clipped_by_itself(kind, expected):
    cfg = config(
        "SOLVER.CLIP_GRADIENTS.ENABLED",
        "True",
        "SOLVER.CLIP_GRADIENTS.CLIP_TYPE",
        kind,
        "SOLVER.CLIP_GRADIENTS.CLIP_VALUE",
        "0.5",
    )
    model = nn.Linear(2, 1)
    model.weight.grad, model.bias.grad = torch.tensor([[3.0, 4.0]]), torch.tensor([0.1])
    clip_gradients(cfg, model)
    assert model.weight.grad[0].tolist() == pytest.approx(expected)
    assert model.bias.grad.tolist() == pytest.approx([0.1])
