"""Ctrl-C that comes where Python ignores exceptions ends a command as any other."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.neutral

PLACES = {
    "the garbage collector": """
def interrupted(phase, info):
    gc.callbacks.remove(interrupted)
    strike()
gc.callbacks.append(interrupted)
gc.collect()
""",
    "a finalizer": """
class Object:
    def __del__(self):
        strike()
Object()
""",
    "a weak reference": """
class Object:
    pass
one = Object()
reference = weakref.ref(one, lambda _: strike())
del one
""",
    "two finalizers": """
class Object:
    def __del__(self):
        strike()
class Slow:
    def __del__(self):
        time.sleep(60)
Object()
Slow()
""",
}
"""Where exceptions are ignored -> code that calls `strike` there."""

COMMAND = """
import gc, signal, sys, time, weakref
from gptj.__main__ import main
from gptj.cli import main as commands
from gptj.system import ignored_interrupts

def strike():
    print("struck", flush=True)
    {strike}

@commands.command()
def work():
    {place}
    time.sleep({seconds})
    print("done")

if {seconds} == 0:
    ignored_interrupts.DELAY = 60
sys.argv = ["gptj", "work"]
main()
"""
CTRL_C = "signal.raise_signal(signal.SIGINT)"


def run(place, strike=CTRL_C, seconds=60):
    """Run a command that strikes in a place and then works for some seconds."""
    place = PLACES[place].replace("\n", "\n    ")
    return subprocess.run(
        [sys.executable, "-c", COMMAND.format(strike=strike, place=place, seconds=seconds)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


@pytest.mark.parametrize("place", PLACES)
def test_ctrl_c_where_exceptions_are_ignored_ends_the_command(place):
    done = run(place)
    assert (done.returncode, done.stdout) == (130, "struck\n")
    assert done.stderr == "gptj: interrupted.\n"


def test_a_command_that_ends_first_is_done():
    done = run("a finalizer", seconds=0)
    assert (done.returncode, done.stdout, done.stderr) == (0, "struck\ndone\n", "")


def test_other_exceptions_that_are_ignored_are_still_shown():
    done = run("a finalizer", "raise ValueError('something else')", seconds=0)
    assert (done.returncode, done.stdout) == (0, "struck\ndone\n")
    assert "ValueError: something else" in done.stderr
