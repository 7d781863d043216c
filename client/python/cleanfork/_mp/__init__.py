"""The start method behind cleanfork.multiprocessing.

Each module imports only those before it: pickling, protocol, templates, popen, context,
drop_in, child. Imports inside functions keep the program's start cheap; they obey that too.
"""
