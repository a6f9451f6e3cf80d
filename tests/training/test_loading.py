"""Loader processes: order, and every way in which one can fail its trainer."""

import faulthandler
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import closing

import pytest
import torch

from segbench.core.errors import DataError, TrainingError
from segbench.training import loading
from segbench.training.loading import load


def squares(item):
    return torch.full((64, 64), float(item)) ** 2


def loaded(make, items, **options):
    return load(make, items, **{"workers": 2, "doing": "testing", **options})


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [0, 1, 2, 3, 40])
@pytest.mark.parametrize("number", [0, 1, 5, 17])
def test_items_come_in_order(workers, number):
    found = list(loaded(squares, range(number), workers=workers))
    assert [float(one[0, 0]) for one in found] == [k * k for k in range(number)]


def test_leaving_early_ends_the_processes():
    with closing(loaded(squares, range(1000))) as batches:
        assert float(next(batches)[0, 0]) == 0
        assert len(multiprocessing.active_children()) == 2


def fails(error):
    def make(item):
        if item == 3:
            raise error
        return squares(item)

    return make


@pytest.mark.parametrize(
    "error",
    [DataError("image 3 is broken", fix="repair it"), MemoryError("no"), OSError(5, "I/O", "a.png"),
     RuntimeError("Expected more"), KeyError("x")],
    ids=repr,
)  # fmt: skip
def test_an_error_comes_where_its_batch_would(error):
    batches = loaded(fails(error), range(9))
    assert [float(next(batches)[0, 0]) for _ in range(3)] == [0, 1, 4]
    with pytest.raises(type(error)) as caught:
        next(batches)
    assert str(caught.value) == str(error)


def test_an_error_that_cannot_be_sent_is_told():
    class Local(Exception):
        pass

    with pytest.raises(RuntimeError, match="Local: mine"):
        list(loaded(fails(Local("mine")), range(9)))


def bus_error():
    faulthandler.disable()  # its report would look like a crash of the tests
    os.kill(os.getpid(), signal.SIGBUS)


ENDS = {
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "bus error": bus_error,
    "exit": lambda: os._exit(7),
}


@pytest.mark.parametrize("way", ENDS)
@pytest.mark.parametrize("item", [0, 5])
def test_a_process_that_ends_is_said(way, item):
    def make(k):
        if k == item:
            ENDS[way]()
        return squares(k)

    told = {"killed": "SIGKILL", "bus error": "SIGBUS", "exit": "exit code 7"}[way]
    with pytest.raises(TrainingError, match=f"died testing: .*{told}") as error:
        list(loaded(make, range(9)))
    assert "workers: 0" in error.value.fix


def test_a_process_that_dies_with_a_batch_in_hand_is_said():
    """The batch is read from the process that made it, which is gone by then."""
    batches = loaded(squares, range(9), workers=1)
    next(batches)
    (process,) = multiprocessing.active_children()
    time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(TrainingError, match=r"died testing: signal SIGKILL"):
        list(batches)


def test_a_batch_that_cannot_be_sent_is_an_error():
    with pytest.raises(TrainingError, match="cannot hand over testing"):
        list(loaded(lambda k: (k, lambda: 0), range(3)))


def test_too_few_open_files_is_an_error():
    def make(k):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        return squares(k)

    with pytest.raises(TrainingError, match="Too many open files"):
        list(loaded(make, range(3), workers=1))


def test_no_room_in_shared_memory_is_an_error(monkeypatch):
    def full(*_):
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space")

    monkeypatch.setattr(torch.UntypedStorage, "_share_fd_cpu_", full, raising=True)
    with pytest.raises(TrainingError, match=r"out of memory: .*through /dev/shm \(.* MiB") as error:
        list(loaded(squares, range(5)))
    assert "workers: 0" in error.value.fix


SMALL = """
    import torch
    from segbench.training.loading import load
    from segbench.core.errors import TrainingError
    made = []
    try:
        for batch in load(lambda k: torch.zeros(1 << k), range(40), workers=2, doing="testing"):
            made.append(batch)
    except TrainingError as error:
        print(len(made), error)
"""


def test_shared_memory_that_runs_out_midway_ends_the_training():
    program = textwrap.dedent(SMALL)
    mount = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"']
    if subprocess.run([*mount, "sh", "true"], capture_output=True).returncode:
        pytest.skip("needs a mount namespace (root)")
    done = subprocess.run(
        [*mount, "sh", sys.executable, "-c", program], capture_output=True, text=True, timeout=300
    )
    number, _, message = done.stdout.partition(" ")
    assert int(number) > 4, done.stderr
    assert message.startswith("out of memory: a data loading process cannot hand over testing")
    assert "(1 MiB, " in message and "workers: 0" in message


ORPHANS = """
    import os, signal, sys, time
    from segbench.training.loading import load
    batches = load(lambda k: os.getpid(), range(1000), workers=3, doing="testing")
    print(*[next(batches) for _ in range(3)], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_processes_end_with_a_trainer_that_is_killed():
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(ORPHANS)], capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    assert len(done.stdout.split()) == 3  # and the pipe of their output has no writer any more


def test_a_slow_process_is_waited_for_with_a_word(monkeypatch, capfd, tmp_path):
    monkeypatch.setattr(loading, "REMIND_S", 0.05)
    said = []
    monkeypatch.setattr(loading, "say", lambda text: (said.append(text), gate.touch()))
    gate = tmp_path / "gate"

    def make(k):
        while not gate.exists():
            time.sleep(0.01)
        return k

    assert list(loaded(make, [1])) == [1]
    assert said and "loader process 0 is at work" in said[0]
