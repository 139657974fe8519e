"""The options --threads and --device: what of this machine the whole program uses."""

from __future__ import annotations

import os
import re
import sys

from cellfeat.errors import CellfeatError

VISIBLE = "CUDA_VISIBLE_DEVICES"


def taken_out(arguments: list[str], option: str) -> tuple[str | None, list[str]]:
    """The value of an option that may stand anywhere, None where it is not given, and the arguments without it."""
    for k, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == option:
            after = k + (1 if equals else 2)
            return value if equals else "".join(arguments[k + 1 : after]), arguments[:k] + arguments[after:]
    return None, arguments


def limit_threads(threads: str | None) -> None:
    """Set the threads of NumPy's and PyTorch's libraries, which read this when they are imported.

    Raises:
        CellfeatError: It is no number of threads.
    """
    if threads is None:
        return
    if not re.fullmatch(r"[0-9]{1,4}", threads) or int(threads) < 1:
        raise CellfeatError(f"--threads {threads}: no number of threads", "give 1 to 9999")
    os.environ["OMP_NUM_THREADS"] = threads
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(int(threads))


def choose_device(device: str | None) -> None:
    """Show PyTorch the chosen device alone, in this process and those that it starts.

    Args:
        device: "cpu", "cuda", "cuda:N", or None for what there is.

    Raises:
        CellfeatError: There is no such device.
    """
    if device is None:
        return
    match = re.fullmatch(r"cpu|cuda(?::(\d{1,3}))?", device)
    if match is None:
        raise CellfeatError(f"--device {device}: no such device", "give cpu, cuda or cuda:N")
    if device == "cpu":
        os.environ[VISIBLE] = ""
        return
    import torch

    found, number = torch.cuda.device_count(), int(match[1] or 0)
    if number >= found:
        has = f"{found} GPU{'' if found == 1 else 's'}"
        raise CellfeatError(f"--device {device}: PyTorch finds {has} here", "`cellfeat doctor` shows the devices")
    if match[1]:
        visible = os.environ.get(VISIBLE) or ",".join(map(str, range(found)))
        os.environ[VISIBLE] = visible.split(",")[number]
