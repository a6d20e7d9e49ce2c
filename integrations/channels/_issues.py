"""What the issue trackers of forges share: the text of an issue, and a mark by which a second try finds the first."""

from integrations.channels.base import Notice


def mark(notice: Notice) -> str:
    """A comment that nobody sees, with the delivery's id."""
    return f"<!-- cachescope {notice.id} -->"


def body(notice: Notice) -> str:
    """The text of an issue or a comment, in Markdown that holds nothing from outside but plain text."""
    lines = "\n\n".join(escape(line) for line in notice.lines)
    return f"**{escape(notice.title)}**\n\n{lines}\n\n[{escape(notice.link)}]({notice.url})\n\n{mark(notice)}"


def escape(text: str) -> str:
    """Leave no markup, link, mention or reference to what was written elsewhere."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = "".join(f"\\{letter}" if letter in "\\`*_{}[]()#+!~|$:" else letter for letter in text)
    return text.replace("@", "@\u200b")
