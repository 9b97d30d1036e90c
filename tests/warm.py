"""Start the project's commands in processes that have imported everything already.

A fresh interpreter needs 5 to 7 CPU seconds to import torch and transformers; a small run itself
needs less. One server for each test process imports them once and forks for every command, as
Python's forkserver does. What a command does for other processes it does here too: `Warm` is a
`subprocess.Popen`, its processes take signals, have exit statuses and children, and their children
(the arms of a run) fork in turn.

The environment variable COLD=1 starts every command in a fresh interpreter instead.
"""

from __future__ import annotations

import atexit
import ctypes
import inspect
import json
import os
import pkgutil
import resource
import runpy
import signal
import socket
import subprocess
import sys
import threading
import traceback
import types
import warnings
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
execute_child = subprocess.Popen._execute_child


class Forking(subprocess.Popen):
    """A Popen that starts `python -m MODULE`, `python -c CODE` or `python FILE` by a fork.

    Other commands start as always.
    """

    def _execute_child(self, *args: Any) -> None:
        # By name: the order of these arguments is private to subprocess.
        given = inspect.signature(execute_child).bind(self, *args).arguments
        command = [os.fspath(word) for word in given["args"]]
        if command[0] != sys.executable:
            execute_child(self, *args)
            return
        pipes = {name: given[name] for name in ("p2cread", "c2pwrite", "errwrite")}
        request = {
            "command": command[1:],
            "cwd": os.fspath(given["cwd"] or os.getcwd()),
            "environment": dict(os.environ if given["env"] is None else given["env"]),
            "session": given["start_new_session"],
        }
        fds = [own if fd == -1 else fd for own, fd in enumerate(pipes.values())]
        self.pid = self._fork(request, fds)
        self._child_created = True
        ends = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(given[name] for name in ends))

    def _fork(self, request: dict[str, Any], fds: list[int]) -> int:
        sys.stdout.flush()  # else both processes would write what is in the buffers
        sys.stderr.flush()
        pid = os.fork()
        if not pid:
            become(request, fds)
        return pid


class Warm(Forking):
    """A process that the server forks, a child of this one.

    Attributes:
        ignored: signals that the process ignores from its start, as under `nohup`.
        file_size: the largest file that it may write, in bytes; a disk that is full.
    """

    def __init__(
        self,
        command: Sequence[Any],
        *,
        ignored: Iterable[int] = (),
        file_size: int | None = None,
        **options: Any,
    ) -> None:
        self.more = {"ignored": [*map(int, ignored)], "file_size": file_size}
        super().__init__(command, **options)

    def _fork(self, request: dict[str, Any], fds: list[int]) -> int:
        server = the_server()
        socket.send_fds(server, [json.dumps(request | self.more).encode()], fds)
        return int(server.recv(32))


class Cold(subprocess.Popen):
    """The same process in a fresh interpreter."""

    def __init__(
        self,
        command: Sequence[Any],
        *,
        ignored: Iterable[int] = (),
        file_size: int | None = None,
        **options: Any,
    ) -> None:
        def prepare() -> None:
            set_signals(ignored)
            limit(file_size)

        super().__init__(command, preexec_fn=prepare, **options)


Process = Cold if os.environ.get("COLD") else Warm


def run(
    command: Sequence[Any], typed: str | None = None, *, cold: bool = False, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Like `subprocess.run` with `capture_output` and `text`; `cold`: in a fresh interpreter."""
    pipe = subprocess.PIPE
    stdin = subprocess.DEVNULL if typed is None else pipe
    start = Cold if cold else Process
    with start(command, stdin=stdin, stdout=pipe, stderr=pipe, text=True, **options) as process:
        out, errors = process.communicate(typed)
    return subprocess.CompletedProcess(command, process.returncode, out, errors)


# The server

_server: socket.socket | None = None


def the_server() -> socket.socket:
    """Return the connection to this process's server; start it at the first call."""
    global _server
    if _server is None:
        _server, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # A forked process whose parent has ended becomes a child of this process, not of init:
        # only a child can be waited for.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.warm", str(theirs.fileno())],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        theirs.close()
        atexit.register(server.wait)
        atexit.register(_server.close)  # first: the server ends when its socket does
    return _server


def serve(channel: socket.socket) -> None:
    """Fork for every request; answer with the pid."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the test process, which ends this
    import_everything()
    while True:
        text, fds, *_ = socket.recv_fds(channel, 1 << 20, 3)
        if not text:
            return
        reader, writer = os.pipe()
        between = os.fork()
        if not between:
            pid = os.fork()
            if not pid:
                channel.close()
                become(json.loads(text), fds)
            os.write(writer, str(pid).encode())
            os._exit(0)
        os.waitpid(between, 0)  # from now on the process is a child of the test process
        channel.send(os.read(reader, 32))
        for fd in (reader, writer, *fds):
            os.close(fd)


def import_everything() -> None:
    """Import all modules of the project that are no commands, and their late imports."""
    for name in ("charembed", "synthetic_tasks", "training"):
        for module in pkgutil.walk_packages(import_module(name).__path__, f"{name}."):
            path = Path(module.module_finder.path) / f"{module.name.rsplit('.')[-1]}.py"
            if not (path.exists() and "__main__" in path.name + path.read_text("utf-8")):
                import_module(module.name)
    for name in LATE:
        import_module(name)


LATE = (
    "matplotlib.backends.backend_svg",
    "torch._dynamo",  # by the first optimizer
    "transformers.models.auto.modeling_auto",
    "transformers.models.llama.modeling_llama",
)


TORCHRUN = "torch.distributed.elastic.multiprocessing.subprocess_handler.subprocess_handler"


# In the forked process


def become(request: dict[str, Any], fds: Sequence[int]) -> None:
    """Run as the process of a command until it ends."""
    status = 1
    try:
        prepare(request, fds)
        status = execute(request["command"])
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def prepare(request: dict[str, Any], fds: Sequence[int]) -> None:
    """Set the state after `execve`: standard streams, signals, folder, environment."""
    high = [os.dup(fd) if fd < 3 else fd for fd in fds]
    for number, fd in enumerate(high):
        os.dup2(fd, number)
    os.closerange(3, 1024)
    if request["session"]:
        os.setsid()
    set_signals(request.get("ignored"))
    limit(request.get("file_size"))
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    subprocess.Popen = Forking  # type: ignore[misc]
    if torchrun := sys.modules.get(TORCHRUN):
        torchrun.Popen = Forking  # type: ignore[attr-defined]
    if interrupts := sys.modules.get("training.interrupts"):
        interrupts._stop = None  # of the process that forked


def set_signals(ignored: Iterable[int] | None) -> None:
    """Set the handlers of a fresh program. None: ignored signals stay ignored."""
    for number in SIGNALS:
        if ignored is None and signal.getsignal(number) == signal.SIG_IGN:
            continue
        default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if number in (ignored or ()) else default)


def limit(file_size: int | None) -> None:
    if file_size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))


def execute(command: Sequence[str]) -> int:
    """Run `-m MODULE`, `-c CODE` or a file as the main program. Returns the exit status."""
    try:
        while command[0] in ("-W", "-u"):
            if command[0] == "-W":
                warnings.simplefilter(command[1])  # type: ignore[arg-type]
            command = command[1 + (command[0] == "-W") :]
        kind, rest = command[0], command[1:]
        sys.argv = [*command] if kind not in ("-m", "-c") else [kind, *rest[1:]]
        if kind == "-m":
            sys.path[0] = os.getcwd()
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        elif kind == "-c":
            sys.path[0] = ""
            sys.modules["__main__"] = types.ModuleType("__main__")
            exec(compile(rest[0], "<string>", "exec"), vars(sys.modules["__main__"]))
        else:
            sys.path[0] = str(Path(kind).parent)
            runpy.run_path(kind, run_name="__main__")
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as at a real end
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        status = status or 120  # as Python itself does
    return status


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
