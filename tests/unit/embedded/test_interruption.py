"""A signal is remembered wherever it arrives, and looked at where stopping is safe.

A process of its own gets each signal: this one has the threads and handlers of many libraries.
"""

import signal
import subprocess
import sys
from textwrap import indent

import pytest

_SCRIPT = """
import gc, os, signal, sys, weakref
from services.cli.interruption import Interrupted, Interruption

class Collected:
    pass

def interrupt(_):
    os.kill(os.getpid(), signal.SIGINT)

def items(number):
    yield 1
    os.kill(os.getpid(), number)

signal.signal(signal.SIGINT, {handler})
try:
    with Interruption() as interruption:
{inside}
except Interrupted as ended:
    sys.exit(ended.exit_code)
print(signal.getsignal(signal.SIGINT) is {handler})
"""


def run(inside: str, handler: str = "signal.default_int_handler") -> tuple[int, str]:
    """Run statements while signals are remembered; return the exit code and what was printed."""
    script = _SCRIPT.format(handler=handler, inside=indent(inside, " " * 8))
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert not ended.stderr, ended.stderr
    return ended.returncode, ended.stdout


def test_a_signal_that_arrives_in_a_callback_is_not_lost() -> None:
    inside = """
thing = Collected()
reference = weakref.ref(thing, interrupt)
del thing
gc.collect()
print(reference())
interruption.check()
print("after the check")
"""
    assert run(inside) == (130, "None\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_after_the_last_item_counts(number: signal.Signals, code: int) -> None:
    inside = f"""
for item in interruption.watched(items({int(number)})):
    print(item)
print("after the last item")
"""
    assert run(inside) == (code, "1\n")


def test_an_ignored_signal_stays_ignored() -> None:
    assert run("interrupt(None); interruption.check()", "signal.SIG_IGN") == (0, "True\n")


def test_afterwards_signals_do_what_they_did() -> None:
    assert run("pass") == (0, "True\n")
