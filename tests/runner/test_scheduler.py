"""The sweep's hold on Snakemake."""

import threading
from types import SimpleNamespace

from contamination.runner import sweep


def test_snakemake_looks_at_waiting_jobs_once_a_second_and_not_ever_more_often():
    """Every look sets a timer for the next, and so does every job that ends: unless there is one already."""
    from snakemake.scheduling.job_scheduler import JobScheduler

    sweep._one_timer_at_a_time()
    scheduler = SimpleNamespace(_open_jobs=threading.Semaphore(0))
    for _ in range(50):
        JobScheduler._schedule_reevalutation(scheduler, 0.05)
    assert scheduler._open_jobs.acquire(timeout=10) and not scheduler._open_jobs.acquire(timeout=0.5)
    JobScheduler._schedule_reevalutation(scheduler, 0.05)
    assert scheduler._open_jobs.acquire(timeout=10)
