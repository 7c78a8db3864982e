"""Python processes that start in milliseconds: forks of one process that has imported everything already.

`python warm.py serve DESCRIPTOR` waits for commands at that listening socket; it imports the package when the first one
comes, and ends when its standard input does. `python warm.py ADDRESS -c CODE ARGUMENTS` (or `-m MODULE ARGUMENTS`) is
then what `python -c CODE ARGUMENTS` is: a fork with this process's folder, environment, streams and exit status runs
it, and gets each SIGINT and SIGTERM that this process gets. Only what a library reads from the environment while it is
imported is that of the server: a test of such a setting starts a Python of its own. `tests/conftest.py` holds one
server for all workers of a test run.
"""

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import threading

MESSAGE = 1 << 16  # bytes read at once


class Server:
    """The process that has imported everything; made where `available`, ended by `stop` or with this process."""

    available = sys.platform == "linux"  # elsewhere there are no abstract sockets, or what is imported survives no fork

    def __init__(self) -> None:
        import subprocess

        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("")  # the kernel of Linux finds an address that is free and needs no file
            listener.listen()
            self.address = listener.getsockname()[1:].decode()
            command = [sys.executable, __file__, "serve", str(listener.fileno())]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[listener.fileno()])

    def stop(self) -> None:
        """End it; processes that it started go on."""
        self._process.communicate(timeout=60)


def command(address: str) -> list[str]:
    """What stands for `python` in a command, in front of `-c` or `-m`."""
    return [sys.executable, "-I", "-S", __file__, address]


def serve(descriptor: int) -> socket.socket:
    """Fork for each client of the listening socket until standard input ends; returns, in forks alone, the client."""
    signal.signal(signal.SIGCHLD, _reap)
    loaded = False
    with socket.socket(fileno=descriptor) as listener:
        while True:
            if sys.stdin in select.select([listener, sys.stdin], [], [])[0]:
                sys.exit()
            client, _ = listener.accept()
            loaded = loaded or import_everything()
            if os.fork() == 0:
                break
            client.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if child := os.fork():
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with contextlib.suppress(BrokenPipeError):  # the client was killed
            client.sendall(str(status).encode())
        os._exit(0)
    return client


def _reap(*_: object) -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def import_everything() -> bool:
    """Import the package, what the notebooks take from it, and Jupyter's kernel; True."""
    import pkgutil

    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"  # as ipykernel sets it before it imports
    # the kernel last: where tqdm finds it, its bars are those of a notebook, also for plain commands
    for name in ("mome.memory", "mome.replication.paper", "matplotlib_inline.backend_inline", "ipykernel.kernelapp"):
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(getattr(package, "__path__", ()), f"{name}."):
            importlib.import_module(module.name)
    gc.freeze()
    return True


def take_over(client: socket.socket) -> list[str]:
    """Become the process that the client asks for; returns its arguments. It ends when the client does."""
    message, streams, *_ = socket.recv_fds(client, MESSAGE, 3)
    while b"\n" not in message:
        message += client.recv(MESSAGE)
    message, _, early = message.partition(b"\n")
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    asked = json.loads(message)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    threading.Thread(target=_obey, args=(client, early), daemon=True).start()
    return list(asked["arguments"])


def _obey(client: socket.socket, early: bytes) -> None:
    """Get the signals that the client got, as numbers, and end when it does."""
    while numbers := early or client.recv(MESSAGE):
        early = b""
        for number in numbers:
            os.kill(os.getpid(), number)
    os.kill(os.getpid(), signal.SIGKILL)


def run(arguments: list[str]) -> None:
    """Run `-c CODE ...` or `-m MODULE ...` as Python does."""
    import runpy

    from tqdm import tqdm

    tqdm.set_lock(threading.RLock())  # the usual one is shared by all forks, and a killed one never gives it back
    option, what, *rest = arguments
    sys.path[0] = ""  # as Python has it for these two, in place of the folder of this file
    if option == "-m":
        sys.argv = [what, *rest]
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.argv = [option, *rest]
        exec(compile(what, "<string>", "exec"), sys.modules["__main__"].__dict__)


def ask(address: str, arguments: list[str]) -> None:
    """Have a fork of the server run the command, and end as it ends."""
    asked = {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(f"\0{address}")
        socket.send_fds(server, [json.dumps(asked).encode() + b"\n"], [0, 1, 2])
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: pass_on(server, number))
        status = int(server.recv(MESSAGE) or 1)
    if status >= 0:
        os._exit(status)
    with contextlib.suppress(OSError):  # SIGKILL has no other action
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)


def pass_on(server: socket.socket, number: int) -> None:
    """Give a signal to the process that does the work, if it still does."""
    with contextlib.suppress(OSError):
        server.send(bytes([number]))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        run(take_over(serve(int(sys.argv[2]))))
    else:
        ask(sys.argv[1], sys.argv[2:])
