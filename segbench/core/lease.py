"""One writer per training state, on one machine or across a cluster.

A holder is a file ``owner-<fence>.json`` with host, process, Slurm job and a heartbeat that
it rewrites every few seconds. The highest fencing number owns the state; a number is claimed
by exclusive creation, so two takers cannot get the same one, and an old owner that comes
back to life finds a higher number and stops. ``flock`` on a second file tells a dead holder
on this machine from a live one at once; where it does not work, heartbeats decide alone.

Heartbeats are counters compared by the waiter's own clock: clocks of hosts may differ.
"""

from __future__ import annotations

import fcntl
import os
import socket
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Literal

from segbench.core.errors import DataError, LeaseHeld, LeaseLost
from segbench.core.files import read_json, write_json
from segbench.core.progress import say

BEAT_S = 5.0
STALE_S = 30.0
REMIND_S = 60.0

Lock = Literal["got", "busy", "unavailable"]
_locks: set[int] = set()


def _close_locks() -> None:
    """Give up inherited locks: a loader process must not keep one alive after its trainer."""
    while _locks:
        os.close(_locks.pop())


os.register_at_fork(after_in_child=_close_locks)


@dataclass(frozen=True)
class Owner:
    """Who holds, or held, a state; ``attempt`` counts from 1 since the last finished run."""

    fence: int
    host: str
    pid: int
    slurm_job: str | None
    slurm_restart: int
    attempt: int = 1
    beat: int = 0
    released: bool = False
    finished: bool = False
    since: str = ""
    command: str = ""

    def __str__(self) -> str:
        job = f", Slurm job {self.slurm_job}" if self.slurm_job else ""
        since = f", since {self.since}" if self.since else ""
        command = f": {self.command}" if self.command else ""
        return f"process {self.pid} on {self.host}{job}{since}{command}"


class Lease:
    """Sole ownership of a state folder while the ``with`` block runs.

    Entering waits, with a line a minute, while another holder's heartbeat is fresh.

    Args:
        folder: The state folder.
        beat_s: Seconds between heartbeats.
        stale_s: Seconds without a heartbeat after which a holder counts as dead.
        waits: False raises ``LeaseHeld`` as soon as a holder is known to be alive.
        command: What the holder does, for those who ask.
    """

    def __init__(
        self,
        folder: Path,
        *,
        beat_s: float = BEAT_S,
        stale_s: float = STALE_S,
        waits: bool = True,
        command: str = "",
    ) -> None:
        self.folder = Path(folder)
        self.beat_s, self.stale_s = beat_s, stale_s
        self._waits = waits
        self.waited = False
        self._lock: int | None = None
        self._owner = replace(_myself(), command=command)
        self._finished = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="lease")

    @property
    def fence(self) -> int:
        """The fencing number of this holder."""
        return self._owner.fence

    @property
    def attempt(self) -> int:
        """How many trainers have held the state since the last finished run, with this one."""
        return self._owner.attempt

    def __enter__(self) -> Lease:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            while not self._claim(self._wait()):
                pass
        except BaseException:
            self._unlock()
            raise
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        if newest_owner(self.folder) == self._owner.fence:
            self._write(replace(self._owner, released=True, finished=self._finished))
        self._unlock()

    def check(self) -> None:
        """Raise ``LeaseLost`` when another process has taken the state over."""
        newest = newest_owner(self.folder)
        if newest is not None and newest > self.fence:
            raise LeaseLost(
                f"{self.folder} was taken over by {read_owner(self.folder, newest)} while this "
                f"process ({self._owner}) seemed dead; nothing was written since",
                fix="nothing: the other process carries the work on",
            )

    def finish(self) -> None:
        """Note that the run is complete: the next holder starts counting attempts anew."""
        self._finished = True

    def _wait(self) -> Owner | None:
        """Return the newest owner as soon as it may be followed."""
        seen: tuple[int, int] | None = None
        since = reminded = began = time.monotonic()
        busy = 0
        while True:
            lock = self._try_lock()
            fence = newest_owner(self.folder)
            owner = None if fence is None else read_owner(self.folder, fence)
            now = time.monotonic()
            beats = owner is not None and seen is not None and (owner.fence, owner.beat) != seen
            if owner is None or (owner.fence, owner.beat) != seen:
                seen, since = None if owner is None else (owner.fence, owner.beat), now
            busy = busy + 1 if lock == "busy" else 0
            may_follow = self._waits or not busy
            if may_follow and (owner is None or self._may_follow(owner, lock, now - since)):
                return owner
            if not self._waits and (busy > 1 or beats):  # busy once: somebody may just have looked
                self._refuse(owner, now - began)
            elif may_follow and (not self.waited or now - reminded >= REMIND_S):
                say(f"waiting: {self.folder} is held by {owner}")
                self.waited, reminded = True, now
            time.sleep(min(self.beat_s, self.stale_s) / 5)

    def _refuse(self, owner: Owner | None, waited_s: float) -> None:
        """Raise ``LeaseHeld``; return while a holder that has just come writes down its name."""
        if owner is not None and owner.pid and not owner.released:
            raise LeaseHeld(str(owner))
        if waited_s > self.stale_s:
            raise LeaseHeld("a process that has not said who it is")

    def _may_follow(self, owner: Owner, lock: Lock, silent_s: float) -> bool:
        me = self._owner
        same_job = owner.slurm_job is not None and owner.slurm_job == me.slurm_job
        if owner.released:
            return True
        if lock == "got" and owner.host == me.host:
            say(f"{owner} is gone; taking over {self.folder}")
            return True
        if same_job and owner.slurm_restart < me.slurm_restart:
            say(f"{owner} was requeued as this process; taking over {self.folder}")
            return True
        if silent_s > self.stale_s:
            say(f"{owner} gave no sign for {silent_s:.0f} s; taking over {self.folder}")
            return True
        return False

    def _claim(self, previous: Owner | None) -> bool:
        """Try to become the next owner; False when another process was faster."""
        fence = 1 if previous is None else previous.fence + 1
        attempt = 1 if previous is None or previous.finished else previous.attempt + 1
        try:
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
            os.close(os.open(_owner_file(self.folder, fence), flags, 0o644))
        except FileExistsError:
            return False
        self._owner = replace(self._owner, fence=fence, attempt=attempt)
        try:
            self._write(self._owner)
        except BaseException:  # an interrupt too: a claim without a name holds up the next one
            _owner_file(self.folder, fence).unlink(missing_ok=True)
            raise
        for old in _fences(self.folder):
            if old < fence:
                _owner_file(self.folder, old).unlink(missing_ok=True)
        return True

    def _beat(self) -> None:
        while not self._stop.wait(self.beat_s):
            newest = newest_owner(self.folder)
            if newest is not None and newest > self.fence:
                return
            self._owner = replace(self._owner, beat=self._owner.beat + 1)
            try:
                self._write(self._owner)
            except DataError as error:
                say(f"heartbeat failed, will try again: {error.what}")

    def _write(self, owner: Owner) -> None:
        write_json(_owner_file(self.folder, owner.fence), asdict(owner))

    def _try_lock(self) -> Lock:
        if self._lock is not None:
            return "got"
        descriptor = os.open(self.folder / "lock", os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return "busy"
        except OSError:
            os.close(descriptor)
            return "unavailable"
        self._lock = descriptor
        _locks.add(descriptor)
        return "got"

    def _unlock(self) -> None:
        if self._lock is not None:
            _locks.discard(self._lock)
            os.close(self._lock)
            self._lock = None


def newest_owner(folder: Path) -> int | None:
    """Return the highest fencing number in a state folder, None where there is none."""
    return max(_fences(folder), default=None)


def read_owner(folder: Path, fence: int) -> Owner:
    """Return the holder of a fencing number; one that is just being written has no name yet."""
    try:
        return Owner(**read_json(_owner_file(folder, fence)))
    except (DataError, TypeError):
        return Owner(fence, host="an unknown host", pid=0, slurm_job=None, slurm_restart=0)


def living_owner(folder: Path) -> Owner | None:
    """Return who holds a state right now; None where no one does, or the holder is dead.

    On this machine the lock tells, elsewhere the age of the last heartbeat.
    """
    fence = newest_owner(folder)
    if fence is None or (owner := read_owner(folder, fence)).released:
        return None
    with suppress(OSError):
        if owner.host == _myself().host:
            return owner if _is_locked(folder) else None
        age_s = time.time() - _owner_file(folder, fence).stat().st_mtime
        return owner if age_s < 2 * STALE_S else None
    return None


def _is_locked(folder: Path) -> bool:
    descriptor = os.open(folder / "lock", os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _fences(folder: Path) -> list[int]:
    names = [path.stem.removeprefix("owner-") for path in folder.glob("owner-*.json")]
    return [int(name) for name in names if name.isdigit()]


def _owner_file(folder: Path, fence: int) -> Path:
    return folder / f"owner-{fence:06d}.json"


def _myself() -> Owner:
    return Owner(
        fence=0,
        host=os.environ.get("SLURMD_NODENAME") or socket.gethostname(),
        pid=os.getpid(),
        slurm_job=os.environ.get("SLURM_JOB_ID"),
        slurm_restart=int(os.environ.get("SLURM_RESTART_COUNT") or 0),
        since=datetime.now().astimezone().isoformat(sep=" ", timespec="seconds"),
    )
