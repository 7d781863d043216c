"""Begins a Python template: ``python3 FLAGS .../cleanfork/_run_template.py DESCRIPTOR``.

Started by the forkserver, never by hand. The package is the one that this file belongs to,
wherever the program found it: neither a variable nor the working directory has a say.
"""

import sys

if __name__ == "__main__":
    # Of 3.15 on (PEP 810): what this needs itself is loaded now, and not by each child anew.
    lazy = None
    if sys.version_info >= (3, 15):
        lazy = sys.get_lazy_imports()
        sys.set_lazy_imports("normal")
    if not getattr(sys.flags, "safe_path", sys.flags.isolated):  # safe_path is of 3.11 on
        del sys.path[0]  # where this file is: it has a subprocess.py
    import os
    from importlib.util import module_from_spec, spec_from_file_location

    home = os.path.dirname(os.path.abspath(__file__))
    spec = spec_from_file_location("cleanfork", os.path.join(home, "__init__.py"),
                                   submodule_search_locations=[home])
    assert spec is not None and spec.loader is not None
    sys.modules["cleanfork"] = package = module_from_spec(spec)
    spec.loader.exec_module(package)

    from cleanfork import template

    # That name is for the program's own main module.
    sys.modules["__main__"] = type(sys)("__main__")
    sys.exit(template.main(lazy))
