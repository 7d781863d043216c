"""get_context(logging=True): what the processes log is handled by the program."""

import unittest

from mp_support import Program, Programs


class Records(Programs):
    def test_reach_the_programs_handlers_with_its_levels(self):
        p = self.prints("""
            import cleanfork, logging, os, sys
            logging.basicConfig(format="imported %(message)s")    # in the template too
            def work(parent):
                logging.info("hello %s", "you")
                logging.debug("not wanted")
                logging.getLogger("quiet.part").warning("not wanted")
                logging.getLogger("loud").debug("loud")
                logging.getLogger("loud").warning("extra", extra={"thing": lambda: 1})
                try:
                    1 / 0
                except ZeroDivisionError:
                    logging.exception("failed")
                logging.info("%d", len("x" * 300_000))
                logging.info("y" * 300_000)
            class Handler(logging.Handler):
                def emit(self, record):
                    text = self.format(record)
                    print(record.name, record.levelname, record.process != os.getpid(),
                          os.getpid() == parent, text.splitlines()[0][:10].replace(" ", "-"),
                          text.splitlines()[-1].split(":")[0][-11:].replace(" ", "-"), sep=",", flush=True)
            if __name__ == "__main__":
                parent = os.getpid()
                logging.root.handlers[:] = [Handler()]
                logging.root.setLevel("INFO")
                logging.getLogger("quiet").setLevel("ERROR")
                logging.getLogger("loud").setLevel("DEBUG")
                p = cleanfork.get_context(logging=True).Process(target=work, args=(parent,))
                p.start(); p.join()
            """, "root,INFO,True,True,hello-you,hello-you loud,DEBUG,True,True,loud,loud "
                 "loud,WARNING,True,True,extra,extra "
                 "root,ERROR,True,True,failed,visionError "
                 "root,INFO,True,True,300000,300000 "
                 "root,INFO,True,True,yyyyyyyyyy,(shortened)")
        self.assertEqual(p.stderr, "")

    def test_of_all_processes_of_a_pool_and_of_theirs_are_in_one_file(self):
        self.prints("""
            import cleanfork, logging, os
            def nested(i):
                logging.warning("nested %d", i)
            def work(i):
                logging.warning("pool %d", i)
                p = cleanfork.get_context(logging=True).Process(target=nested, args=(i,))
                p.start(); p.join()
            if __name__ == "__main__":
                logging.basicConfig(filename="log", format="%(message)s")
                from concurrent.futures import ThreadPoolExecutor, ProcessPoolExecutor
                ctx = cleanfork.get_context(logging=True)
                with ProcessPoolExecutor(2, mp_context=ctx) as pool:
                    list(pool.map(work, range(10)))
                import atexit
                atexit._run_exitfuncs()       # as at the end: all of it is there
                lines = open("log").read().splitlines()
                print(len(lines), sorted(lines) == sorted(f"{k} {i}" for k in ("pool", "nested")
                                                          for i in range(10)))
            """, "20 True")

    def test_of_one_whose_program_was_killed_go_to_standard_error(self):
        with Program("""
            import cleanfork, logging, os, select, signal
            def work(pid):
                ended = os.pidfd_open(pid)
                os.kill(pid, signal.SIGKILL)
                select.select([ended], [], [])
                logging.warning("alone")
            if __name__ == "__main__":
                ctx = cleanfork.get_context(logging=True)
                ctx.Process(target=work, args=(os.getpid(),)).start()
                signal.pause()
            """) as program:
            p = program.run()  # until the process, too, has closed the pipes
        self.assertEqual((p.returncode, p.stderr), (-9, "alone\n"))


if __name__ == "__main__":
    unittest.main()
