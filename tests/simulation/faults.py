"""How badly a simulated world behaves."""

from __future__ import annotations

from typing import NamedTuple


class Habits(NamedTuple):
    """Probabilities are per occasion; ``_every_s`` are mean times between two of a kind, 0 for never."""

    job_s: float = 1.5
    is_steady: bool = False
    # workers
    worker_dies: float = 0.0005
    """Before each of its steps."""
    slow_worker: float = 0.1
    slowness: float = 20.0
    stall: float = 0.01
    """During a job."""
    stall_s: float = 45.0
    fail: float = 0.02
    wrong: float = 0.01
    """The arithmetic of a job goes wrong."""
    hang: float = 0.0
    """A job that never ends, of a worker that lives."""
    hungry: float = 0.0
    """A job that fits nowhere before what it holds at a time is halved, once or twice: its nature, also when it is calm."""
    restart_s: float = 3.0
    drain_every_s: float = 0.0
    # queues
    latency_s: float = 0.02
    delay_s: float = 0.5
    """Until a message that was sent is seen."""
    duplicate: float = 0.03
    undeleted: float = 0.02
    """A deleted message comes back."""
    queue_error: float = 0.01
    """A call fails, without effect or after it."""
    lose_message: float = 0.003
    queue_lost_every_s: float = 0.0
    # store
    store_error: float = 0.01
    """503 or 409, without effect."""
    answer_lost: float = 0.01
    """After the effect."""
    slow_answer: float = 0.01
    slow_answer_s: float = 8.0
    outage_every_s: float = 0.0
    outage_s: float = 12.0
    # coordinators
    coordinator_dies: float = 0.0
    """Before each of its steps."""
    coordinator_crash_every_s: float = 0.0
    coordinator_stall_every_s: float = 0.0
    coordinator_stall_s: float = 30.0
    rival_every_s: float = 0.0
    """Another coordinator takes the lead by mistake, while the one that leads is well."""

    @property
    def is_calm(self) -> bool:
        return self.is_steady


CALM = Habits(
    is_steady=True, worker_dies=0, slow_worker=0, stall=0, fail=0, wrong=0, hang=0, duplicate=0, undeleted=0, queue_error=0,
    lose_message=0, store_error=0, answer_lost=0, slow_answer=0,
)  # fmt: skip
