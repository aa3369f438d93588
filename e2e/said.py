"""What a program says, line by line: whoever waits for a line is woken by it."""

import collections
import subprocess
import threading
import time

WITHIN = 20  # seconds: what is awaited comes in a few; a machine under load may take longer
REMEMBERED = 100_000  # lines


class Said:
    """Starts a program and keeps its lines, in memory and in a file."""

    def __init__(self, command, path, **options):
        self.path, self.lines, self.ended = path, collections.deque(maxlen=REMEMBERED), False
        self.news = threading.Condition()
        options = {"stdin": subprocess.DEVNULL, **options}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        with open(self.path, "ab") as file:
            for line in self.process.stdout:
                file.write(line)
                file.flush()
                with self.news:
                    self.lines.append(line.decode(errors="replace").rstrip())
                    self.news.notify_all()
        with self.news:
            self.ended = True
            self.news.notify_all()

    def wait(self, matches, count=1, within=WITHIN):
        """The line with which `count` lines match; `matches` is a text that is in them, or a function."""
        fits = matches if callable(matches) else lambda line: matches in line
        deadline, seen, found = time.monotonic() + within, 0, []
        with self.news:
            while True:
                lines = list(self.lines)
                found += [line for line in lines[seen:] if fits(line)]
                seen = len(lines)
                if len(found) >= count:
                    return found[count - 1]
                left = deadline - time.monotonic()
                if left <= 0 or self.ended:
                    why = "it ended" if self.ended else f"within {within} s"
                    raise AssertionError(f"{matches!r} was not said ({why}):\n" + "\n".join(lines[-60:]))
                self.news.wait(left)

    def stop(self, within=10):
        """Ends the program, and gives back what it ended with."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(within)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait(within)
        self.reader.join(within)
        return self.process.returncode
