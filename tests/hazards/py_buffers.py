"""Group 1 in Python: what print() has not written yet."""

import os
import sys
import tempfile

from py_support import Damage, case, main, read_all


class Captured:
    """Standard output goes to a pipe or a file, from here to finish()."""

    def __init__(self, to_pipe):
        self.saved, self.to_pipe = os.dup(1), to_pipe
        if to_pipe:
            self.read, write = os.pipe()
        else:
            file = tempfile.TemporaryFile(buffering=0)
            self.read, write = os.dup(file.fileno()), os.dup(file.fileno())
            file.close()
        os.dup2(write, 1)
        os.close(write)

    def finish(self):
        sys.stdout.flush()
        os.dup2(self.saved, 1)
        os.close(self.saved)
        if not self.to_pipe:
            os.lseek(self.read, 0, os.SEEK_SET)
        content = read_all(self.read).decode()
        os.close(self.read)
        return content


def say_child():
    print("child")


def judge(captured, content):
    where = "the pipe" if captured.to_pipe else "the file"
    evidence = f'{where} has "{content}", parent and child printed a line each'
    for line in ("parent\n", "child\n"):
        if content.count(line) != 1:
            return Damage("twice" if content.count(line) else "lost", evidence)
    return None


def both_print(scene, start):
    # What Python makes of a pipe or a file as its standard output.
    sys.stdout.reconfigure(line_buffering=False, write_through=False)

    def once(i):
        captured = Captured(to_pipe=i % 2 == 0)
        print("parent")
        start()
        return judge(captured, captured.finish())

    scene.each(once)


@case(1, "py-stdout-twice", "sys.stdout: copied, written at sys.exit()", 20, 100)
def twice(scene):
    both_print(scene, lambda: scene.fork(say_child))


@case(1, "py-stdout-lost", "sys.stdout: the child's, lost at os._exit()", 20, 100)
def lost(scene):
    both_print(scene, lambda: scene.fork(say_child, leave="os._exit"))


@case(1, "py-mp-stdout", "sys.stdout: a multiprocessing process", 20, 100)
def by_multiprocessing(scene):
    both_print(scene, lambda: scene.run(say_child))


if __name__ == "__main__":
    main()
