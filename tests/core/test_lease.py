from __future__ import annotations

import errno
import fcntl
import multiprocessing
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from segbench.core import lease as lease_module
from segbench.core.errors import LeaseHeld, LeaseLost
from segbench.core.files import read_json
from segbench.core.lease import Lease, newest_owner, read_owner
from tests.gates import wait_until

STILL: dict[str, Any] = {"beat_s": 3600, "stale_s": 30}
"""A holder whose heart beats by hand only, see ``beat``."""


class Clock:
    """Stands for the time of those who wait; what a test has planned happens while they sleep."""

    def __init__(self) -> None:
        self.now, self.meanwhile = 0.0, lambda: None

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert self.now < 10_000, "waits for ever"
        self.now += seconds
        self.meanwhile()

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(lease_module, "time", clock)
    return clock


def beat(lease: Lease) -> None:
    lease._owner = replace(lease._owner, beat=lease._owner.beat + 1)
    lease._write(lease._owner)


@pytest.mark.fault(7)
def test_second_waits_until_the_first_is_done(
    tmp_path: Path, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    first = Lease(tmp_path, **STILL).__enter__()

    def work() -> None:
        beat(first)
        first.check()
        if clock.now > 1000:
            first.finish()
            first.__exit__(None, None, None)

    clock.meanwhile = work
    with Lease(tmp_path, **STILL) as second:
        assert clock.now > 1000, "taken over although the holder gave signs of life"
        assert second.waited
        assert (second.fence, second.attempt) == (2, 1)
    assert f"is held by process {read_owner(tmp_path, 2).pid}" in capsys.readouterr().err


@pytest.mark.fault(8)
def test_stale_holder_is_followed_and_stops(tmp_path: Path, clock: Clock) -> None:
    with Lease(tmp_path, **STILL) as old, Lease(tmp_path, **STILL) as new:
        assert clock.now > 30
        assert (new.fence, new.attempt) == (2, 2)
        new.check()
        with pytest.raises(LeaseLost, match="was taken over by process"):
            old.check()
        assert old.check.__self__.fence == 1
    assert read_owner(tmp_path, 2).released
    assert newest_owner(tmp_path) == 2


def test_heart_beats_until_another_holder_comes(tmp_path: Path) -> None:
    with Lease(tmp_path, beat_s=0.001, stale_s=30) as old:
        wait_until(lambda: read_owner(tmp_path, 1).beat >= 3, "three heartbeats")
        (tmp_path / "owner-000002.json").touch()
        old._thread.join()


@pytest.mark.fault(7)
def test_dead_holder_on_this_machine_is_followed_at_once(tmp_path: Path, clock: Clock) -> None:
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=_hold, args=(str(tmp_path),))
    process.start()
    wait_until((tmp_path / "ready").exists, "the holder", process)
    process.kill()
    process.join()
    with Lease(tmp_path, **STILL) as new:
        assert clock.now == 0, "it slept"
        assert (new.fence, new.attempt) == (2, 2)


def _hold(folder: str) -> None:
    with Lease(Path(folder), **STILL):
        (Path(folder) / "ready").touch()
        signal.pause()


@pytest.mark.fault(8)
def test_another_host_is_believed_until_its_heart_stops(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURMD_NODENAME", "node1")
    old = Lease(tmp_path, **STILL).__enter__()
    old._unlock()
    clock.meanwhile = lambda: beat(old) if clock.now < 1000 else None
    monkeypatch.setenv("SLURMD_NODENAME", "node2")
    with Lease(tmp_path, **STILL) as new:
        assert clock.now > 1029
        assert read_owner(tmp_path, new.fence).host == "node2"
    old.__exit__(None, None, None)


@pytest.mark.fault(6, 8)
def test_requeued_job_takes_over_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    with Lease(tmp_path, **STILL) as old:
        monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
        with Lease(tmp_path, **STILL) as new:
            assert new.fence == 2
            with pytest.raises(LeaseLost, match="Slurm job 77"):
                old.check()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
@pytest.mark.fault(7)
def test_without_flock_heartbeats_decide(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def unavailable(*_: object) -> None:
        raise OSError(number, "no locks here")

    monkeypatch.setattr(fcntl, "flock", unavailable)
    with Lease(tmp_path, **STILL) as old:
        clock.meanwhile = lambda: beat(old) if clock.now < 1000 else None
        with Lease(tmp_path, **STILL) as second:
            assert clock.now > 1029, "a living holder was not respected"
            assert second.fence == 2


@pytest.mark.fault(7)
def test_two_takers_never_get_the_same_number(tmp_path: Path) -> None:
    dead = Lease(tmp_path, **STILL).__enter__()
    previous = read_owner(tmp_path, 1)
    takers = [Lease(tmp_path, **STILL) for _ in range(8)]
    barrier, won = threading.Barrier(8), []

    def take(taker: Lease) -> None:
        barrier.wait()
        if taker._claim(previous):
            won.append(taker.fence)

    threads = [threading.Thread(target=take, args=(taker,)) for taker in takers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [2]
    dead.__exit__(None, None, None)


@pytest.mark.fault(7)
def test_forked_children_do_not_keep_the_lock(tmp_path: Path) -> None:
    with Lease(tmp_path, **STILL) as held:
        assert held._lock in lease_module._locks
        lease_module._locks.discard(held._lock)
        lease_module._close_locks()
        lease_module._locks.add(held._lock)
        assert read_json(tmp_path / "owner-000001.json")["released"] is False


def test_impatient_taker_is_told_who_holds_it(tmp_path: Path) -> None:
    with Lease(tmp_path, **STILL, command="a command"), pytest.raises(LeaseHeld) as refused:
        Lease(tmp_path, **STILL, waits=False).__enter__()
    assert "a command" in str(refused.value)
    with Lease(tmp_path, **STILL, waits=False) as second:
        assert second.fence == 2
        assert not second.waited


def test_impatient_taker_sees_a_living_holder_where_locks_do_not_work(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with Lease(tmp_path, **STILL) as holder:
        clock.meanwhile = lambda: beat(holder)
        with pytest.raises(LeaseHeld):
            Lease(tmp_path, **STILL, waits=False).__enter__()
        clock.meanwhile = lambda: None
        with Lease(tmp_path, **STILL, waits=False) as second:
            assert second.fence == 2


def test_interrupted_claim_leaves_no_nameless_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(lease_module, "write_json", interrupted)
        with pytest.raises(KeyboardInterrupt):
            Lease(tmp_path, **STILL).__enter__()
    assert newest_owner(tmp_path) is None
