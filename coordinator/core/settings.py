"""What the configuration says to the scheduler."""

from __future__ import annotations

import msgspec


class SchedulerSettings(msgspec.Struct, frozen=True):
    """What the configuration says to the scheduler. Times in seconds."""

    fleet: str
    store_url: str
    jobs_per_worker: int = 3
    job_target_s: float = 20.0
    worker_silence_s: float = 15.0
    no_worker_timeout_s: float = 600.0
    max_attempts: int = 4
    lease_s: float = 60.0
    keep_results_s: float = 7 * 86400.0
    beacon_s: float = 2.0
    heartbeat_s: float = 5.0
