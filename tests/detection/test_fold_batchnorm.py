import pytest
import torch
from torch import nn

from cellfeat.detection.config import config_dir, load_config
from cellfeat.detection.fold_batchnorm import to_bf16_inference
from cellfeat.detection.torchvision_engine.model import MaskRCNN

CONFIG = config_dir() / "wbc_mask_rcnn_R_18_FPN_tiny.yaml"


@pytest.fixture(params=["torchvision", pytest.param("detectron2", marks=pytest.mark.detectron2)])
def backbone(request, tiny):
    """R18-FPN of either engine with batch norms whose statistics are not the initial ones."""
    norms = ["MODEL.RESNETS.NORM", "FrozenBN", "MODEL.FPN.NORM", "BN"]
    cfg = load_config(CONFIG, [*tiny, *norms, "MODEL.BACKBONE.FREEZE_AT", "2"])
    torch.manual_seed(0)
    if request.param == "torchvision":
        model = MaskRCNN(cfg)
    else:
        from cellfeat.detection.detectron2_engine.config import to_detectron2_cfg
        from cellfeat.detection.detectron2_engine.engine import new_model

        model = new_model(to_detectron2_cfg(cfg))
    for name, value in model.state_dict().items():
        if name.endswith(("running_var", "norm.weight", "bn1.weight", "bn2.weight")):
            value.uniform_(0.5, 1.5)
        elif name.endswith(("running_mean", "norm.bias", "bn1.bias", "bn2.bias")):
            value.uniform_(-0.5, 0.5)
    return model.backbone.eval()


@torch.inference_mode()
def test_a_folded_network_computes_the_same(backbone):
    images = torch.randn(2, 3, 64, 96)
    expected = backbone(images)
    to_bf16_inference(backbone)
    assert not any("running_var" in name for name in backbone.state_dict())
    convolutions = [module for module in backbone.modules() if isinstance(module, nn.Conv2d)]
    assert {layer.weight.dtype for layer in convolutions} == {torch.bfloat16}
    backbone.float()  # the rounding of the weights to bf16 stays
    for level, maps in backbone(images).items():
        error = (maps - expected[level]).norm() / expected[level].norm()
        assert error < 2e-2, level


def test_group_norms_stay_as_they_are(tiny):
    model = MaskRCNN(load_config(CONFIG, tiny)).eval()
    norms = [name for name, module in model.named_modules() if isinstance(module, nn.GroupNorm)]
    to_bf16_inference(model)
    assert norms == [name for name, module in model.named_modules() if isinstance(module, nn.GroupNorm)]
    assert {module.weight.dtype for module in model.modules() if isinstance(module, nn.GroupNorm)} == {torch.float32}
