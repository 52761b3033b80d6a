import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from motoric.cluster import processes

SLEEPER = "import time; print(flush=True); time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPER}"
# Its child has an environment of its own, without the instance.
PARENT = (
    "import subprocess, sys; "
    f"subprocess.Popen([sys.executable, '-c', {SLEEPER!r}], env={{}}).wait()"
)


@contextmanager
def started(code: str, instance_id: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={processes.INSTANCE_VARIABLE: instance_id},
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()  # it runs
        yield process
    finally:
        process.kill()
        process.communicate()


def test_only_processes_of_the_instance_are_ended():
    with started(SLEEPER, "one") as mine, started(SLEEPER, "two") as other:
        assert processes.end("one") == 1
        assert mine.wait(10) != 0
        assert other.poll() is None
        assert [process.pid for process in processes.find("two")] == [other.pid]


def test_a_process_that_ignores_the_request_is_killed():
    with started(STUBBORN, "stubborn") as process:
        assert processes.end("stubborn") == 1
        assert process.wait(10) == -9


def test_children_without_the_environment_belong_to_their_parent():
    with started(PARENT, "parent"):
        assert len(processes.find("parent")) == 2
        assert processes.end("parent") == 2
        assert processes.find("parent") == []


def test_ending_nothing_ends_nothing():
    assert processes.end("nobody") == 0


def test_a_stubborn_child_without_the_environment_is_killed_though_its_parent_went_first():
    # So does a worker of Ray: its title, once set, lies over its environment.
    with started(PARENT.replace(repr(SLEEPER), repr(STUBBORN)), "orphan"):
        child = next(p for p in processes.find("orphan") if p.children() == [])
        assert processes.end("orphan") == 2
        # Nobody may be there to reap it, which leaves its entry but no process.
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
