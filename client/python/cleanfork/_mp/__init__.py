"""The start method behind cleanfork.multiprocessing.

Each module imports only those before it: by_value, pickling, logs, protocol, templates,
tracker, popen, context, drop_in, child. Imports inside functions keep the program's start cheap;
they obey that too.
"""
