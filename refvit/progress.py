"""How far a long run is: rate and remaining time, on a text stream."""

import time

TERMINAL_INTERVAL, LOG_INTERVAL = 0.2, 10.0  # seconds between two reports: on a terminal, and in a log


class Progress:
    """Reports ``what done/total, rate, time left``; on a terminal in one line that is rewritten, else a line each.

    stream  text stream, or None: silent
    done    what an earlier run left; the rate counts only what this one does
    """

    def __init__(self, stream, what, total, done=0):
        self.stream, self.what, self.total, self.first = stream, what, total, done
        self.terminal = stream is not None and stream.isatty()
        self.started = self.last = time.monotonic()

    def update(self, done, note=""):
        """Report ``done`` of the total if it is time to, and always at the end."""
        now = time.monotonic()
        interval = TERMINAL_INTERVAL if self.terminal else LOG_INTERVAL
        if self.stream is None or (now - self.last < interval and done < self.total):
            return
        self.last = now
        rate = (done - self.first) / max(now - self.started, 1e-9)
        left = _clock((self.total - done) / rate) if rate else "?"
        text = f"{self.what} {done}/{self.total}, {rate:.1f}/s, {left} left{', ' if note else ''}{note}"
        end = "\n" if done == self.total or not self.terminal else ""
        self.stream.write(("\r\x1b[K" if self.terminal else "") + text + end)
        self.stream.flush()


def _clock(seconds):
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
