from __future__ import annotations

import errno
import fcntl
import multiprocessing
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from segbench import lease as lease_module
from segbench.errors import LeaseHeld, LeaseLost
from segbench.formats import read_json
from segbench.lease import Lease, newest_owner, read_owner

FAST: dict[str, Any] = {"beat_s": 0.05, "stale_s": 0.4}


def freeze(lease: Lease) -> None:
    """Stop the heartbeat, as a suspended process does; the lock stays held."""
    lease._stop.set()
    lease._thread.join()


@pytest.mark.fault(7)
def test_second_waits_until_the_first_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    second = Lease(tmp_path, **FAST)
    entered = threading.Event()

    def follow() -> None:
        with second:
            entered.set()

    with Lease(tmp_path, **FAST) as first:
        thread = threading.Thread(target=follow)
        thread.start()
        assert not entered.wait(1.0), "taken over although the holder gave signs of life"
        first.check()
        first.finish()
    thread.join(5)
    assert entered.is_set()
    assert second.waited
    assert (second.fence, second.attempt) == (2, 1)
    assert f"is held by process {read_owner(tmp_path, 2).pid}" in capsys.readouterr().err


@pytest.mark.fault(8)
def test_stale_holder_is_followed_and_stops(tmp_path: Path) -> None:
    with Lease(tmp_path, **FAST) as old:
        freeze(old)
        begin = time.monotonic()
        with Lease(tmp_path, **FAST) as new:
            assert time.monotonic() - begin >= 0.4
            assert (new.fence, new.attempt) == (2, 2)
            new.check()
            with pytest.raises(LeaseLost, match="was taken over by process"):
                old.check()
            assert old.check.__self__.fence == 1
    assert read_owner(tmp_path, 2).released
    assert newest_owner(tmp_path) == 2


@pytest.mark.fault(7)
def test_dead_holder_on_this_machine_is_followed_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=_hold, args=(str(tmp_path),))
    process.start()
    while not (owner := newest_owner(tmp_path)) or read_owner(tmp_path, owner).beat < 1:
        time.sleep(0.01)
    process.kill()
    process.join()
    begin = time.monotonic()
    with Lease(tmp_path, beat_s=5, stale_s=60) as new:
        assert time.monotonic() - begin < 2
        assert (new.fence, new.attempt) == (2, 2)


def _hold(folder: str) -> None:
    with Lease(Path(folder), **FAST):
        time.sleep(60)


@pytest.mark.fault(8)
def test_another_host_is_believed_until_its_heart_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURMD_NODENAME", "node1")
    old = Lease(tmp_path, **FAST).__enter__()
    freeze(old)
    old._unlock()
    monkeypatch.setenv("SLURMD_NODENAME", "node2")
    begin = time.monotonic()
    with Lease(tmp_path, **FAST) as new:
        assert time.monotonic() - begin >= 0.4
        assert read_owner(tmp_path, new.fence).host == "node2"


@pytest.mark.fault(6, 8)
def test_requeued_job_takes_over_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    with Lease(tmp_path, **FAST) as old:
        monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
        with Lease(tmp_path, beat_s=5, stale_s=60) as new:
            assert new.fence == 2
            with pytest.raises(LeaseLost, match="Slurm job 77"):
                old.check()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
@pytest.mark.fault(7)
def test_without_flock_heartbeats_decide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def unavailable(*_: object) -> None:
        raise OSError(number, "no locks here")

    monkeypatch.setattr(fcntl, "flock", unavailable)
    with Lease(tmp_path, **FAST) as old:
        second = Lease(tmp_path, **FAST)
        thread = threading.Thread(target=second.__enter__)
        thread.start()
        thread.join(0.8)
        assert thread.is_alive(), "a living holder was not respected"
        freeze(old)
        thread.join(3)
        assert not thread.is_alive()
        assert second.fence == 2
        second.__exit__(None, None, None)


@pytest.mark.fault(7)
def test_two_takers_never_get_the_same_number(tmp_path: Path) -> None:
    dead = Lease(tmp_path, **FAST).__enter__()
    freeze(dead)
    previous = read_owner(tmp_path, 1)
    takers = [Lease(tmp_path, **FAST) for _ in range(8)]
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
    dead._unlock()


@pytest.mark.fault(7)
def test_forked_children_do_not_keep_the_lock(tmp_path: Path) -> None:
    with Lease(tmp_path, **FAST) as held:
        assert held._lock in lease_module._locks
        lease_module._locks.discard(held._lock)
        lease_module._close_locks()
        lease_module._locks.add(held._lock)
        assert read_json(tmp_path / "owner-000001.json")["released"] is False


def test_impatient_taker_is_told_who_holds_it(tmp_path: Path) -> None:
    with Lease(tmp_path, **FAST, command="a command"), pytest.raises(LeaseHeld) as refused:
        Lease(tmp_path, **FAST, waits=False).__enter__()
    assert "a command" in str(refused.value)
    with Lease(tmp_path, **FAST, waits=False) as second:
        assert second.fence == 2
        assert not second.waited


def test_impatient_taker_sees_a_living_holder_where_locks_do_not_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with Lease(tmp_path, **FAST) as holder:
        with pytest.raises(LeaseHeld):
            Lease(tmp_path, **FAST, waits=False).__enter__()
        freeze(holder)
        with Lease(tmp_path, **FAST, waits=False) as second:
            assert second.fence == 2


def test_interrupted_claim_leaves_no_nameless_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(lease_module, "write_json", interrupted)
        with pytest.raises(KeyboardInterrupt):
            Lease(tmp_path, **FAST).__enter__()
    assert newest_owner(tmp_path) is None
