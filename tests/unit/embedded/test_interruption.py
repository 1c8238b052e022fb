"""A signal is remembered wherever it arrives, and looked at where stopping is safe."""

import gc
import os
import signal
import weakref
from collections.abc import Iterator

import pytest

from services.cli.interruption import Interrupted, Interruption


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class _Collected:
    """What is collected while a signal arrives."""


def test_a_signal_that_arrives_in_a_callback_is_not_lost() -> None:
    def interrupt(_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with Interruption() as interruption:
        thing = _Collected()
        reference = weakref.ref(thing, interrupt)
        del thing
        gc.collect()
        assert reference() is None
        with pytest.raises(Interrupted) as ended:
            interruption.check()
    assert ended.value.exit_code == 130


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_after_the_last_item_counts(number: signal.Signals, code: int) -> None:
    def items() -> Iterator[int]:
        yield 1
        os.kill(os.getpid(), number)

    with Interruption() as interruption, pytest.raises(Interrupted) as ended:
        assert list(interruption.watched(items())) == [1]
    assert ended.value.exit_code == code


def test_an_ignored_signal_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Interruption() as interruption:
        os.kill(os.getpid(), signal.SIGINT)
        interruption.check()


def test_afterwards_signals_do_what_they_did() -> None:
    with Interruption():
        pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
