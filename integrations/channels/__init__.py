"""Kinds of channels, each in a file of its own, by the name of its module."""

import sys

from cachescope.plugins import discover
from integrations.channels.base import ChannelKind

CHANNELS: dict[str, ChannelKind] = discover(sys.modules[__name__], "CHANNEL")
