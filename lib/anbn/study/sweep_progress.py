"""How a sweep goes: a live table on a terminal, else a line for every event."""

import statistics
import sys
import time

from anbn.core.paths import stage_number

STATES = ("done", "up to date", "running", "waiting", "failed", "not run")
RARE = ("up to date", "not run")  # shown where there are any


class Progress:
    """State of all runs of a sweep, shown while it changes.

    Parameters
    ----------
    runs : dict of str to Run
    labels : list of str
        Of the points.
    seconds : dict of str to float
        Of one run of each stage, as far as known before.
    live : bool, optional
        Whether to draw a table; else on a terminal.
    """

    def __init__(self, runs, labels, seconds, *, live=None):
        self.runs, self.labels = runs, labels
        self.known, self.measured = seconds, {}
        self.states = dict.fromkeys(runs, "waiting")
        self.started, self.workers, self.n_jobs = {}, {}, 1
        self.table = None
        if sys.stdout.isatty() if live is None else live:
            from rich.live import Live

            self.table = Live(self._draw(), refresh_per_second=2, transient=False)

    def __enter__(self):
        if self.table:
            self.table.__enter__()
        return self

    def __exit__(self, *error):
        if self.table:
            self.table.update(self._draw())
            self.table.__exit__(*error)

    def start(self, key, worker=""):
        """A run has started on a worker; again, if its worker has died."""
        again = self.states[key] == "running"
        self.states[key], self.started[key] = "running", time.monotonic()
        self.workers[key] = worker
        self._say(key, "again, its worker died" if again else "running")

    def end(self, key, answer):
        """A run has ended."""
        state = answer["status"]
        if state == "done" and not answer["ran"]:
            state = "up to date"
        self.states[key] = state
        what = state
        if answer["ran"] and state == "done":
            stage = self.runs[key].stage
            self.measured.setdefault(stage, []).append(answer["seconds"])
            what = f"done in {answer['seconds']:.0f} s"
        if answer["error"]:
            what += f": {answer['error']}"
        self._say(key, what)

    def say(self, text):
        """A line of its own."""
        if self.table:
            self.table.console.print(text, markup=False, highlight=False)
        else:
            print(text, flush=True)

    def tick(self):
        """Draw again."""
        if self.table:
            self.table.update(self._draw())

    def count(self, state):
        return list(self.states.values()).count(state)

    def seconds_left(self):
        """Time the rest will take, or None while a stage's own is not known."""
        total, now = 0.0, time.monotonic()
        for key, state in self.states.items():
            if state not in ("waiting", "running"):
                continue
            mean = self._mean(self.runs[key].stage)
            if mean is None:
                return None
            gone = now - self.started[key] if state == "running" else 0.0
            total += max(mean - gone, 0.0)
        return total / self.n_jobs

    def _mean(self, stage):
        measured = self.measured.get(stage)
        return statistics.fmean(measured) if measured else self.known.get(stage)

    def _left(self):
        left = self.seconds_left()
        return "time left not known yet" if left is None else f"{duration(left)} left"

    def _say(self, key, what):
        if self.table and not what.startswith("failed"):
            return self.tick()
        run = self.runs[key]
        label = self.labels[run.points[0]]
        more = f" and {len(run.points) - 1} more" if len(run.points) > 1 else ""
        over = len(self.states) - self.count("waiting") - self.count("running")
        # one may start before word of the end of the one before it comes in
        running = min(self.count("running"), self.n_jobs)
        failed = f", {self.count('failed')} failed" if self.count("failed") else ""
        self.say(
            f"[{over}/{len(self.states)}] {run.stage} of {label}{more}: {what} "
            f"({running} running{failed}, {self._left()})"
        )

    def _draw(self):
        from rich.table import Table

        table = Table(title=self._left(), title_justify="left")
        table.add_column("stage", no_wrap=True, overflow="ellipsis")
        shown = [s for s in STATES if s not in RARE or self.count(s)]
        for state in shown:
            table.add_column(state, justify="right")
        table.add_column("s a run", justify="right")
        for stage in dict.fromkeys(run.stage for run in self.runs.values()):
            states = [s for k, s in self.states.items() if self.runs[k].stage == stage]
            counts = [states.count(state) for state in shown]
            mean = self._mean(stage)
            mean = "" if mean is None else f"{mean:.0f}"
            table.add_row(stage, *(str(n) if n else "" for n in counts), mean)
        now = time.monotonic()
        running = [k for k, state in self.states.items() if state == "running"]
        for key in running[:20]:
            run = self.runs[key]
            label = self.labels[run.points[0]]
            gone = f"{now - self.started[key]:.0f}"
            cells = [f"{gone} s" if state == "running" else "" for state in shown]
            table.add_row(f"  {stage_number(run.stage)} {label}", *cells)
        return table


def duration(seconds):
    """Seconds as people say them."""
    if seconds < 90:
        return f"some {seconds:.0f} s"
    if seconds < 5400:
        return f"some {seconds / 60:.0f} min"
    return f"some {seconds / 3600:.1f} h"
