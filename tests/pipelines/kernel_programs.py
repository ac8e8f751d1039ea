"""Modules and programs for tests/pipelines/test_kernel.py.

In: nothing. Out: a kernel in one file that calls a kernel in another one, and programs as text that
call it, alone or as two processes at once.
"""

from __future__ import annotations

CALLED = (
    "from slipform.pipelines.kernel import kernel\n@kernel\ndef called(x):\n    return x + {}\n"
)
CALLING = """
from slipform.pipelines.kernel import kernel
from slipform.pipelines.called import called
@kernel
def calling(x):
    return 10 * called(x)
"""
# The kernel is in the same line as in CALLING, so that numba keeps both in one index.
TAKES_A_CLASS = """from typing import NamedTuple
from slipform.pipelines.kernel import kernel
Gone = NamedTuple("Gone", [("x", int)])
@kernel
def calling(x):
    return 20
"""
# Settings that the warm process may have read from its environment.
FRESH = """
import sys, tempfile
sys.dont_write_bytecode, tempfile.tempdir = True, None
"""
ASK = """
import warnings
warnings.simplefilter("always")
from slipform.pipelines.calling import calling
from slipform.pipelines.kernel import is_compiled
before = is_compiled(calling)
value = calling(1)
assert is_compiled(calling)
assert before or not calling.stats.cache_hits
print(value, sum(calling.stats.cache_hits.values()), calling._cache.cache_path)
"""
# Two processes save code of one function. The first one waits before it writes its index.
SAVES_SLOWLY = """
import os, time
from numba.core.caching import IndexDataCacheFile as Files
save = Files._save_index
def slow(files, overloads):
    if files._index_name.startswith("calling"):
        open("begun", "w").close()
        while not os.path.exists("go"):
            time.sleep(0.01)
    save(files, overloads)
Files._save_index = slow
"""
SAYS_THAT_IT_WAITS = """
import fcntl
lock = fcntl.flock
def flock(*arguments):
    open("waits", "w").close()
    lock(*arguments)
fcntl.flock = flock
"""
WAITS_FOREVER = """
from slipform.pipelines import kernel
kernel._LONGEST_WAIT = float("inf")  # the machine may be busy
"""
# Its waiting takes no time. It writes how many seconds it would have waited.
WAITS_NOT = """
import atexit, fcntl, pathlib, time
slept, lock = [], fcntl.flock
def flock(handle, how):
    assert how & (fcntl.LOCK_NB | fcntl.LOCK_UN), "it would wait without a limit"
    lock(handle, how)
fcntl.flock, time.sleep = flock, slept.append
atexit.register(lambda: pathlib.Path("slept").write_text(str(sum(slept))))
"""
DIES_BEFORE_ITS_CODE = """
write = Files._save_data
def die(files, name, data):
    if name.startswith("calling"):
        os._exit(3)
    write(files, name, data)
Files._save_data = die
"""
NO_LOCKS = """
import errno, fcntl
def fails(*_): raise OSError(errno.ENOLCK, "No locks available")
fcntl.flock = fails
"""
CALL = """
import atexit
atexit.register(lambda: open("ended", "w").close())
from slipform.pipelines.calling import calling
print(*map(calling, {}), sum(calling.stats.cache_hits.values()))
"""
