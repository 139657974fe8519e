import pytest
import torch

from cellfeat.core import precision


@pytest.mark.parametrize("has_bf16", [True, False])
def test_a_cpu_without_bf16_computes_in_fp32_and_says_so_once(monkeypatch, caplog, has_bf16):
    monkeypatch.setattr(precision, "_cpu_has_bf16", lambda: has_bf16)
    precision._say_once.cache_clear()
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert [precision.usable("bf16", cpu) for _ in range(2)] == 2 * ["bf16" if has_bf16 else "fp32"]
    assert precision.usable("bf16", gpu) == "bf16"
    assert precision.usable("fp32", cpu) == "fp32"
    assert len(caplog.records) == (0 if has_bf16 else 1)
