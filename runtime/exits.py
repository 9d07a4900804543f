"""How every command of ours ends: in one line and an exit code, whatever becomes of its streams."""

import codecs
import contextlib
import io
import os
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator

from .errors import PleinairError, cut

FAULT = 1
MISTAKE = 2
INTERRUPTED = 130
NO_READER = 141
TERMINATED = 143

# Of two signals within so many seconds the second is the same one again: `timeout` and terminals
# send one to the process and to its group.
_AGAIN = 0.3
# They turn the text around them about, so that a line says something else than it holds.
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class _Terminated(KeyboardInterrupt):
    """SIGTERM: cleaned up after as Ctrl-C is."""


def exit_code(
    run: Callable[[], int | None],
    name: str = "error",
    stopped: str = "stopped",
    debug: bool = False,
) -> int:
    """Run a command; its exit code is what it returns, None being 0.

    2 is a mistake that its user can mend, 1 a fault of ours, 130 Ctrl-C, 143 SIGTERM, 141 an
    output that nobody reads any more. Each but the last gets one line on stderr.

    name: what stands before the line of a mistake.
    stopped: what is said of an interruption.
    debug: show the traceback of any error; the environment's PLEINAIR_DEBUG does so too.
    """
    with _open_streams(), _stoppable():
        code = _ended(run, name, stopped, debug or bool(os.environ.get("PLEINAIR_DEBUG")))
        try:
            sys.stdout.flush()
        except OSError as error:
            _discard_output()
            return code or _of_system(error, name)
    return code


def tell(line: object) -> None:
    """One line on stderr; a stderr that cannot be written to stops nothing."""
    with contextlib.suppress(OSError, ValueError):
        print(harmless(str(line)), file=sys.stderr)


def harmless(text: str) -> str:
    """In one line, with control characters shown and not obeyed."""
    return "".join(_shown(letter) for letter in " ".join(text.split()))


def _shown(letter: str) -> str:
    control = not (letter.isprintable() or letter.isspace() or "\u200b" <= letter <= "\u200d")
    return ascii(letter)[1:-1] if control or letter in _TURNING else letter


def _ended(run: Callable[[], int | None], name: str, stopped: str, debug: bool) -> int:
    try:
        return run() or 0
    except KeyboardInterrupt as error:
        tell(stopped)
        return TERMINATED if isinstance(error, _Terminated) else INTERRUPTED
    except Exception as error:
        if debug:
            with contextlib.suppress(OSError, ValueError):
                traceback.print_exc()
        if isinstance(error, PleinairError):
            tell(f"{name}: {error}")
        elif isinstance(error, MemoryError):
            tell(f"{name}: not enough memory; close other programs, or ask for less at once")
        elif isinstance(error, OSError):
            return _of_system(error, name)
        else:
            tell(f"{name}: {_fault(error, debug)}")
            return FAULT
        return MISTAKE


def _of_system(error: OSError, name: str) -> int:
    """A full disk, a folder that may not be written to, a reader that is gone."""
    if isinstance(error, BrokenPipeError):
        return NO_READER
    file = error.filename
    where = os.fsdecode(file) if isinstance(file, bytes) else file
    said = "the output" if where is None else cut(str(where), 300)
    tell(f"{name}: {said}: {error.strerror or error}")
    return MISTAKE


def _fault(error: Exception, debug: bool) -> str:
    """What is said of an error that nobody thought of."""
    what = f"this is a fault of Pleinair's, not yours ({type(error).__name__}: {str(error)[:200]})"
    if debug:
        return f"{what}; please report it, with the lines above"
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="pleinair-fault-", suffix=".txt", delete=False, encoding="utf-8"
        ) as file:
            file.write("".join(traceback.format_exception(error)).encode(errors="replace").decode())
    except OSError:
        return f"{what}; please report it, with what --debug says"
    return f"{what}; please report it, with {file.name}"


# Streams.


@contextlib.contextmanager
def _open_streams() -> Iterator[None]:
    """Standard streams that are there, and take every text.

    Where the caller has closed one, the next file opened would get its number, and what a library
    prints: so nothing's stream is in its place. What stdout's encoding has not is written as its
    bytes, where it came as bytes, else as an escape.
    """
    if None not in (sys.stdin, sys.stdout, sys.stderr):
        _take_every_text(sys.stdout)
        yield
        return
    before = sys.stdin, sys.stdout, sys.stderr
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # it stays open: 0, 1 or 2 was free
    os.close(number)
    with open(os.devnull, "r+", encoding="utf-8") as nothing:
        sys.stdin, sys.stdout, sys.stderr = (stream or nothing for stream in before)
        _take_every_text(sys.stdout)
        try:
            yield
        finally:
            sys.stdin, sys.stdout, sys.stderr = before


def _take_every_text(stream: object) -> None:
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors=_EVERY_TEXT)


def _bytes_or_escapes(error: UnicodeError) -> tuple[str | bytes, int]:
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)


_EVERY_TEXT = "pleinair.bytes_or_escapes"
codecs.register_error(_EVERY_TEXT, _bytes_or_escapes)


def _discard_output() -> None:
    """What is left in stdout's buffer goes nowhere: Python would try it again when it ends."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


# Signals.


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM cleans up as Ctrl-C does; a second Ctrl-C ends the process at once.

    Python acts on a signal between two of its own instructions, and a step of denoising may take a
    minute: so a thread hears of signals, too, as they come.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(signum: int, frame: object) -> None:
        raise _Terminated

    # A signal that the parent set to be ignored, as shells do for background jobs, stays so.
    heeded = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    hearing, told = socket.socketpair()
    told.setblocking(False)
    listener = threading.Thread(target=_end_at_the_second, args=(hearing,), daemon=True)
    listener.start()
    before = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    try:
        if heeded:
            signal.signal(signal.SIGTERM, terminate)
        yield
    finally:
        if heeded:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.set_wakeup_fd(before)
        told.close()
        listener.join()
        hearing.close()


def _end_at_the_second(hearing: socket.socket) -> None:
    """Read the numbers of signals as they come; at the second Ctrl-C there is no more waiting."""
    first: float | None = None
    while number := hearing.recv(1):
        if number[0] != signal.SIGINT:
            continue
        now = time.monotonic()
        if first is not None and now - first > _AGAIN:
            with contextlib.suppress(OSError, ValueError):
                if sys.stderr.isatty():
                    os.write(2, b"\x1b[?25h\r\x1b[K")  # progress bars hide the cursor
            os._exit(INTERRUPTED)
        first = now if first is None else first
