"""The child processes of `cellfeat.core.child`, forked from a warm process instead of started anew.

A child that looks at a strange file is an isolated Python, and its start takes most of its time. A harness that runs
thousands of commands has them forked from one process that has loaded what they need; their code and limits are the
same. `start` must be called before torch is loaded: children inherit the address space, which they limit.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module

MODULES = ("cellfeat.store.probe", "cellfeat.core.pickle_file")


def start() -> None:
    """Fork the warm process, and let this one and its children have their children from it."""
    path = f"\0cellfeat-warm-{os.getpid()}"  # an abstract address: nothing to remove
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen(64)
    if not os.fork():
        try:
            _serve(server, os.getppid())
        finally:
            os._exit(0)
    server.close()

    def start_child(module: str, _: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> _Child:
        return _Child(path, module, environment or {})

    for name in MODULES:
        vars(import_module(name))["start_child"] = start_child


class _Child:
    """What `subprocess.Popen` offers of a process with pipes, of one that another process started."""

    def __init__(self, path: str, module: str, environment: Mapping[str, str]) -> None:
        self.returncode: int | None = None
        theirs_in, ours_in = os.pipe()
        ours_out, theirs_out = os.pipe()
        self._status = socket.socket(socket.AF_UNIX)
        self._status.connect(path)
        request = json.dumps([module, dict(environment)]).encode()
        socket.send_fds(self._status, [request], [theirs_in, theirs_out])
        os.close(theirs_in), os.close(theirs_out)
        self.stdin, self.stdout = os.fdopen(ours_in, "wb"), os.fdopen(ours_out, "rb")
        self.pid = int.from_bytes(self._status.recv(8), "big")

    def communicate(self, content: bytes = b"") -> tuple[bytes, None]:
        """Write the input, read the output, wait; the children read all of their input before they write."""
        if self.stdin:
            with suppress(BrokenPipeError), self.stdin as stdin:
                stdin.write(content)
        with self.stdout as stdout:
            said = stdout.read()
        self.wait()
        return said, None

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = int.from_bytes(self._status.recv(8), "big", signed=True)
            self._status.close()
        return self.returncode

    def kill(self) -> None:
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


def _serve(server: socket.socket, parent: int) -> None:
    for name in (*MODULES, "h5py", "cellfeat.store.guard", "cellfeat.store.chunks"):
        import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    server.settimeout(1)
    while os.getppid() == parent:
        try:
            connection, _ = server.accept()
        except TimeoutError:
            continue
        if not os.fork():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            connection.settimeout(None)
            _run(connection)
            os._exit(0)
        connection.close()


def _run(connection: socket.socket) -> None:
    request, (stdin, stdout), _, _ = socket.recv_fds(connection, 1 << 16, 2)
    module, environment = json.loads(request)
    pid = os.fork()
    if not pid:
        status = 1
        try:
            os.environ.update(environment)
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(stdin, 0), os.dup2(stdout, 1), os.dup2(quiet, 2)
            os.closerange(3, 256)
            sys.stdin, sys.stdout = os.fdopen(0, encoding="utf-8"), os.fdopen(1, "w", encoding="utf-8")
            import_module(module).main()
            sys.stdout.flush()
            status = 0
        finally:
            os._exit(status)
    os.close(stdin), os.close(stdout)
    connection.send(pid.to_bytes(8, "big"))
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with suppress(OSError):  # whoever asked may have been killed
        connection.send(status.to_bytes(8, "big", signed=True))
