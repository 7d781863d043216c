"""The start method behind cleanfork.multiprocessing."""
