"""A program that knows nothing of cleanfork: the standard library's multiprocessing alone.

    python3 -m cleanfork unchanged.py      its processes come from the forkserver
    python3 unchanged.py                   they are forks of it, or from 3.14 on of Python's own
                                           forkserver
"""

import multiprocessing
import os


def square(n):
    return n * n, os.getppid()


def main():
    with multiprocessing.Pool(3) as pool:
        results = pool.map(square, range(20))
    assert [value for value, _ in results] == [n * n for n in range(20)]
    theirs = {parent for _, parent in results}
    told = "this program" if theirs == {os.getpid()} else "a template"
    print(f"start method {multiprocessing.get_start_method()}: forked from {told}")


if __name__ == "__main__":
    main()
