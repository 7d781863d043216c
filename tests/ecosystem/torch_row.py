"""torch: a DataLoader with workers that stay, and torch.multiprocessing with gloo."""

import os
import random
import tempfile
import time

import numpy
import torch
import torch.distributed
import torch.multiprocessing
from torch.utils.data import DataLoader, Dataset

import told

TITLE = "torch: DataLoader, torch.multiprocessing (CPU)"
PACKAGES = ["torch==2.13.0", "numpy"]
METHODS = ["fork", "spawn", "forkserver", "cleanfork"]
ROUNDS = 3
LINE = ("`DataLoader(..., multiprocessing_context=cleanfork.get_context())`; "
        "`torch.multiprocessing.start_processes(..., start_method=\"cleanfork\")`")
WHAT = "4 workers, to the first batch: "
DIFFERENT = ("the seeds of torch, numpy and random in each worker are those of the other methods "
             "(compared); a worker that begins again takes {cleanfork[again]:.2f} s, by spawn "
             "{spawn[again]:.2f} s. A program that has used CUDA may use it: nothing of it is copied "
             "(not run: no GPU here)")
WORKERS = told.scaled(4, 2)


class Numbers(Dataset):
    """What it gives depends on the seeds of the worker."""

    def __len__(self):
        return 240

    def __getitem__(self, i):
        return torch.tensor([i, random.randrange(1000), numpy.random.randint(1000),
                             int(torch.randint(1000, ()))])


def loader(persistent=True):
    return DataLoader(Numbers(), batch_size=20, num_workers=WORKERS, shuffle=True,
                      persistent_workers=persistent, multiprocessing_context=told.context(),
                      generator=torch.Generator().manual_seed(7))


def reduce(rank, address, out):
    """Of torch.distributed: the sum of what all have."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{address}", rank=rank,
                                         world_size=2)
    one = torch.full((1000,), rank + 1.0)
    torch.distributed.all_reduce(one)
    out.put(float(one.sum()))
    torch.distributed.destroy_process_group()


def all_reduced():
    out = torch.multiprocessing.get_context(told.METHOD).SimpleQueue()
    with tempfile.TemporaryDirectory() as directory:
        torch.multiprocessing.start_processes(
            reduce, (os.path.join(directory, "store"), out), nprocs=2, start_method=told.METHOD)
        return [out.get(), out.get()]


def main():
    if told.METHOD == "cleanfork":
        import cleanfork  # noqa: F401
    torch.set_num_threads(1)
    begun = time.monotonic()
    stays = loader()
    batches = iter(stays)
    first = next(batches)
    start = time.monotonic() - begun
    told.up()
    result = [first.tolist(), *(batch.tolist() for batch in batches)]
    result += [batch.tolist() for batch in stays]  # another epoch of the same workers
    del batches, stays
    begun = time.monotonic()
    result += [batch.tolist() for batch in loader(persistent=False)]
    again = time.monotonic() - begun
    result.append(all_reduced())
    told.done(result, start, again=again)


if __name__ == "__main__":
    main()
