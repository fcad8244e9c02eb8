"""Names in a pickle that run code or reach files: what loads it with Python imports and calls them.

The tables tell how a warning is worded, and nothing else: nothing that a pickle names is ever imported here, and a name
that they lack is not harmless for that. Origin: the modules of Python's standard library that run code, start
processes, open files or sockets, and what https://github.com/mmaitre314/picklescan and
https://github.com/trailofbits/fickling list beside.
"""

from collections.abc import Iterable

MODULES = frozenset(
    (
        *("os", "posix", "nt", "sys", "subprocess", "_posixsubprocess", "popen2", "pty", "ctypes", "_ctypes", "runpy"),
        *("importlib", "imp", "_frozen_importlib", "_frozen_importlib_external", "zipimport", "pkgutil", "pickle"),
        *("_pickle", "cPickle", "marshal", "shelve", "cloudpickle", "bdb", "pdb", "doctest", "codeop", "timeit"),
        *("cProfile", "pydoc", "idlelib", "lib2to3", "_pyrepl", "_osx_support", "_aix_support", "venv", "ensurepip"),
        *("pip", "setuptools", "distutils", "shutil", "tempfile", "fileinput", "mmap", "webbrowser", "antigravity"),
        *("socket", "_socket", "socketserver", "ssl", "http", "httplib", "urllib", "urllib2", "requests", "aiohttp"),
        *("ftplib", "smtplib", "poplib", "imaplib", "telnetlib", "xmlrpc", "asyncio", "atexit", "sqlite3", "zipfile"),
        *("tarfile", "numpy.f2py", "numpy.distutils", "numpy.testing", "torch._inductor", "torch._dynamo", "torch.hub"),
        *("torch.package", "torch.utils.cpp_extension", "torch.utils.bottleneck", "torch.utils._config_module"),
        *("torch.utils.collect_env", "torch.fx.experimental.symbolic_shapes.ShapeEnv"),
    )
)
"""Modules of which every name counts, those of their submodules too."""

BUILTINS = (
    *("exec", "eval", "compile", "execfile", "__import__", "open", "file", "input", "raw_input", "breakpoint", "apply"),
    *("getattr", "setattr", "delattr", "globals", "locals", "vars", "map", "filter", "exit", "quit", "help", "reload"),
)
"""Of them, those that run code or lead to what does: `getattr` reaches any function by its name."""

NAMES = frozenset(
    (
        *(f"{module}.{name}" for module in ("builtins", "__builtin__", "__builtins__") for name in BUILTINS),
        *(f"{module}.{name}" for module in ("operator", "_operator") for name in ("attrgetter", "methodcaller")),
        *(f"{module}.{name}" for module in ("io", "_io") for name in ("open", "open_code", "FileIO")),
        *(f"code.{name}" for name in ("InteractiveInterpreter", "InteractiveConsole", "interact")),
        *("commands.getoutput", "commands.getstatusoutput", "profile.run", "profile.runctx", "profile.Profile"),
        *("trace.Trace", "types.CodeType", "types.FunctionType", "functools.reduce", "logging.config.listen"),
        *("uuid._get_command_stdout", "uuid._popen", "platform.popen", "dill.load", "dill.loads", "dill._dill.loads"),
        *("dill._dill._create_function", "dill._dill._create_code", "dill._dill._import_module"),
        *("dill._dill._eval_repr", "numpy.load", "numpy.loads", "numpy.save", "numpy.savez", "numpy.fromfile"),
        *("numpy.loadtxt", "numpy.genfromtxt"),
        *("numpy.memmap", "joblib.load", "joblib.numpy_pickle.load", "pandas.eval", "pandas.read_pickle"),
        *("pandas.io.pickle.read_pickle", "torch.load", "torch.save", "torch.serialization.load", "torch.jit.load"),
        *("torch.jit.unsupported_tensor_ops.execWrapper", "torch.fx.graph_module.reduce_graph_module"),
        *("torch.fx.graph_module.reduce_package_graph_module", "torch.fx.graph_module.reduce_deploy_graph_module"),
        *("torch.fx.graph_module._forward_from_src", "torch.fx.graph_module._exec_with_source"),
    )
)
"""Functions and classes of modules whose other names are harmless, or unknown."""

INSIDE = frozenset(("os", "posix", "nt", "sys", "subprocess", "builtins", "__builtin__", "__builtins__"))
"""Modules that are reached through others that import them as well, as in `torch.serialization.os.system`."""


def danger(names: Iterable[str]) -> str:
    """What is said of a file that names these, `module.name`, beginning with `names`; '' where none is dangerous."""
    found = [name for name in names if is_dangerous(name)]
    if not found:
        return ""
    which = f"{', '.join(found[:3])}{f' and {len(found) - 3:,} more' if len(found) > 3 else ''}"
    does = "runs code or touches files where it is" if len(found) == 1 else "run code or touch files where they are"
    return f"names {which}, which {does} loaded by pickle; nothing was loaded here"


def is_dangerous(name: str) -> bool:
    """Whether `module.name` runs code or touches files where it is called, as far as the tables know."""
    if "." not in name:
        return False
    parts = name.split(".")
    beginnings = {".".join(parts[:count]) for count in range(1, len(parts) + 1)}
    pairs = {".".join(parts[start : start + 2]) for start in range(1, len(parts))}
    return bool(beginnings & MODULES or (beginnings | pairs) & NAMES or INSIDE & {*parts[1:]})
