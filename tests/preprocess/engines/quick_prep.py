"""The command `prep` as a fork of a process that has imported its modules.

In: nothing. Out: `QuickPrep`, whose `install` writes a command `prep` into a folder. The command
gives its words, folder, variables and files to the process, and ends with the code of the fork.
Only the imports are shared, which take most of the time of a new process.

The process runs this file as a program. Its argument is the path of its socket.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

_CLIENT = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({path!r})
    task = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [len(task).to_bytes(4, "big")], [0, 1, 2])
    server.sendall(task)
    os._exit((server.recv(1) or b"\\xff")[0])
"""


class QuickPrep:
    """The process. Use it in a `with` statement, which ends it."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._path = str(Path(self._folder.name) / "socket")
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, self._path],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout
        assert self._process.stdout.readline() == b"ready\n"

    def __enter__(self) -> QuickPrep:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._folder.cleanup()

    def install(self, folder: Path) -> None:
        """Write the command into a folder, which is made."""
        folder.mkdir(parents=True, exist_ok=True)
        client = folder / "prep"
        client.write_text(_CLIENT.format(python=sys.executable, path=self._path))
        client.chmod(0o700)


def _become(connection: socket.socket) -> None:
    """Take the words, folder, variables and files of the command."""
    head, files, *_ = socket.recv_fds(connection, 4, 3)
    size, task = int.from_bytes(head, "big"), b""
    while len(task) < size:
        task += connection.recv(size - len(task))
    words, folder, variables = json.loads(task)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    sys.argv = ["prep", *words]


def _serve(path: str) -> None:
    from slipform.preprocess.cli import main
    from slipform.preprocess.prep import prepare

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        prepare("shapes", out=Path(folder) / "out", num_train=6, num_val=0, num_test=0, shards=1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(64)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            connection, _ = server.accept()
            if os.fork() == 0:
                break
            connection.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _become(connection)
    code: object = 1
    try:
        main(prog_name="prep")
    except SystemExit as end:
        code = end.code
    sys.stdout.flush()
    sys.stderr.flush()
    connection.sendall(bytes([code if isinstance(code, int) else int(code is not None)]))
    os._exit(0)


if __name__ == "__main__":
    _serve(sys.argv[1])
