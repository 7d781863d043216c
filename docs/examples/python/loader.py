"""A pipeline that feeds a training loop: workers make batches, in order, in shared memory.

    loader.py [BATCHES]       prints what a training loop would take in (24)

Workers are forked from a template that has imported numpy, and each draws random numbers
of its own: children of the stock forkserver that preloads numpy all draw the same.
"""

import sys
from multiprocessing import shared_memory

import cleanfork
import numpy

WORKERS = 3
DEPTH = 2  # batches that each worker is ahead
SHAPE = (32, 3, 64, 64)


def batch_in(memory, slot):
    size = int(numpy.prod(SHAPE)) * 4
    return numpy.ndarray(SHAPE, numpy.float32, memory.buf, slot * size)


def work(memory_name, first_slot, indices, ready):
    memory = shared_memory.SharedMemory(memory_name)
    for slot, index in iter(indices.get, None):
        batch = batch_in(memory, first_slot + slot)
        augmentation = numpy.random.normal(0, 0.01, SHAPE)
        batch[:] = index + augmentation
        noise = float(augmentation[0, 0, 0, 0])
        del batch
        ready.put((slot, index, noise))
    memory.close()


class Loader:
    """Iterates over batches, in order; the array is valid until the next one is asked for."""

    def __init__(self, batches):
        self.batches = batches
        context = cleanfork.get_context(preload=["__main__", "numpy"], die_with_parent=True)
        size = int(numpy.prod(SHAPE)) * 4 * WORKERS * DEPTH
        self.memory = shared_memory.SharedMemory(create=True, size=size)
        self.queues = [(context.SimpleQueue(), context.SimpleQueue()) for _ in range(WORKERS)]
        self.workers = [context.Process(target=work, args=(self.memory.name, n * DEPTH, *queues))
                        for n, queues in enumerate(self.queues)]

    def __enter__(self):
        for worker in self.workers:
            worker.start()
        return self

    def __exit__(self, *_):
        for indices, _ready in self.queues:
            indices.put(None)
        for worker in self.workers:
            worker.join()
        self.memory.close()
        self.memory.unlink()

    def __iter__(self):
        def ask(index):
            if index < self.batches:
                self.queues[index % WORKERS][0].put((index // WORKERS % DEPTH, index))

        for index in range(WORKERS * DEPTH):
            ask(index)
        for index in range(self.batches):
            slot, made, noise = self.queues[index % WORKERS][1].get()
            assert made == index
            yield batch_in(self.memory, index % WORKERS * DEPTH + slot), noise
            ask(index + WORKERS * DEPTH)


def main():
    batches = int(sys.argv[1]) if len(sys.argv) > 1 else 24
    noises = set()
    with Loader(batches) as loader:
        for index, (batch, noise) in enumerate(loader):
            if round(float(batch.mean()), 2) != index:
                sys.exit(f"batch {index} is wrong")
            noises.add(noise)
            del batch
    if len(noises) != batches:
        sys.exit("workers drew the same random numbers")
    print(f"{batches} batches from {WORKERS} processes, in order, no two with the same noise")


if __name__ == "__main__":
    main()
