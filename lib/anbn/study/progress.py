"""How runs go: a live view on a terminal, else a line for every event."""

import sys
import time

from rich.live import Live
from rich.text import Text

from anbn.study import task
from anbn.study.wording import duration


class Progress:
    """Runs of a study or sweep, shown while they go.

    Parameters
    ----------
    names : dict of str to str
        By fingerprint: what to call a run.
    seconds : dict of str to float
        What each run will take, as far as known.
    """

    def __init__(self, names, seconds):
        self.names, self.seconds = names, seconds
        self.running, self.ended, self.n_failed, self.n_jobs = {}, set(), 0, 1
        self.live = Live(get_renderable=self._view, refresh_per_second=2)

    def __enter__(self):
        if sys.stdout.isatty():
            self.live.start()
        return self

    def __exit__(self, *error):
        self.live.stop()

    def start(self, key):
        """A run has started; again, if its worker has died."""
        again = "again, its worker died" if key in self.running else "running"
        self.running[key] = time.monotonic()
        self._say(key, again)

    def end(self, key, answer):
        """A run has ended."""
        self.running.pop(key, None)
        self.ended.add(key)
        what = "up to date" if answer["status"] == "done" else answer["status"]
        self.n_failed += what == "failed"
        if answer["ran"]:
            what = f"{answer['status']} in {answer['seconds']:.0f} s"
        error = answer["error"] and f": {task.one_line(answer['error'])}"
        self._say(key, what + (error or ""))

    def _say(self, key, what):
        line = f"[{len(self.ended)}/{len(self.names)}] {self.names[key]}: {what}"
        if self.live.is_started:
            self.live.console.print(line, markup=False, highlight=False)
        else:
            print(f"{line} ({self._left()})", flush=True)

    def _left(self):
        left = [self.seconds.get(key) for key in self.names if key not in self.ended]
        if None in left:
            return "time left not known yet"
        # workers tell of what begins at any time, from another thread
        gone = sum(time.monotonic() - start for start in list(self.running.values()))
        return f"{duration(max(sum(left) - gone, 0) / self.n_jobs)} left"

    def _view(self):
        now = time.monotonic()
        head = f"{len(self.ended)} of {len(self.names)} ended, {self.n_failed} failed"
        running = list(self.running.items())
        lines = [f"  {now - start:4.0f} s {self.names[key]}" for key, start in running]
        return Text("\n".join([f"{head}, {self._left()}", *lines[:20]]))
