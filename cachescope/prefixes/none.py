"""A bare log: what the builder printed, with nothing in front; carriage returns at line ends are taken off."""

from cachescope.prefixes.base import Line


class _NoPrefix:
    wrapper = None

    def sniff(self, head: bytes) -> float:
        """Return the least score above zero: every log can be read as a bare one."""
        return 0.01

    def strip(self, line: bytes) -> Line:
        """Take off the line end."""
        return Line(line.rstrip(b"\r\n"))


PREFIX = _NoPrefix()
