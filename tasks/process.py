"""Settings of the whole process, made once by whoever starts a run: libraries' notices, precision, memory."""

import ctypes
import logging
import os
import sys
import warnings
from pathlib import Path

import torch

QUIET = (
    r".*LeafSpec|The number of training batches|You passed in a `val_dataloader` but have no|"
    r".*does not have many workers|"  # the data is in memory; workers would not help
    r"You're resuming from a checkpoint that ended before the epoch ended|"  # TrainLoader goes on there
    r"Checkpoint directory .* exists and is not empty|"  # of a resumed run; no other run has a folder that exists
    r"Using `DistributedSampler` with the dataloaders|"  # that of an evaluation repeats no sample
    r"You passed `Trainer\(accelerator='cpu', precision='16-mixed'\)`|"  # which is refused
    r"You requested to overfit but enabled|"  # whose batches are then taken in their stored order
    r"Be aware that when using `ckpt_path`, callbacks used to create|"  # a resumed run may be watched by others
    r"`ModelCheckpoint\(monitor=.* could not find the monitored key"  # before the first validation
)


def configure_process() -> None:
    """Silences what a user cannot act upon, lets a GPU use TensorFloat-32 and keeps freed memory."""
    for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=QUIET)
    torch.set_float32_matmul_precision("high")  # nothing changes on a CPU
    if not torch.cuda.is_available():
        # Lightning's way of looking for a GPU before a fork: without one it takes 0.1 ms in each optimizer step
        os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    keep_freed_memory()


def has_bf16_instructions() -> bool:
    """Whether the CPU computes with bfloat16 itself; where the operating system does not tell, it counts as yes."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return True
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & flags)


def keep_freed_memory() -> None:
    """Has glibc keep freed memory for the next tensor: a CPU step with fresh pages takes 1.05 to 1.5 times as long."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is not None and hasattr(libc, "mallopt"):
        libc.mallopt(-3, 2**30)  # M_MMAP_THRESHOLD: no pages of its own for a tensor below 1 GiB
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
