"""A process that does not outlive the one that started it, and one that is stopped."""

import multiprocessing
import os
import threading
import time

STOPPED = threading.Event()  # by Ctrl-C: jobs that end then have not failed


def die_with_parent() -> None:
    """End this process within a second of its parent's end, also after `kill -9`: no orphan goes on writing."""
    started_by = multiprocessing.parent_process()  # it may have died before this
    parent = started_by.pid if started_by else os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
