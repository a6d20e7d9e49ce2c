"""Text that somebody else chose, inside Markdown that we write: it is shown, and never becomes anything.

Branches, images, instructions and log lines may come from whoever opened a pull request. All of them go into code
spans or fenced blocks: there neither GitHub, GitLab, Gitea nor Bitbucket look for mentions, references, links, emoji or
HTML (https://github.github.com/gfm/#code-spans). Backslashes would not do: forges look for `@` in what was rendered.
"""

import re
import unicodedata

_SPACES = re.compile(r"\s+")
_BACKTICK_LOOKALIKE = "ˋ"
"""U+02CB. A code span cannot be left where there is no backtick, whatever the forge's renderer thinks of them."""
_KEPT = frozenset("\n\t")
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def visible(text: str) -> str:
    """Replace what cannot be seen: controls, marks that reorder or join text, unassigned characters."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c if c in _KEPT or unicodedata.category(c) not in _HIDDEN_CATEGORIES else "\ufffd" for c in text
    ).replace("\t", " ")


def one_line(text: str, longest: int = 100) -> str:
    """Return a text as one visible line, shortened in its middle: the start says what it is, the end what it works on.

    Never reads more of a text than may be shown.
    """
    if len(text) > 4 * longest:
        text = text[: 2 * longest] + text[-2 * longest :]
    line = _SPACES.sub(" ", visible(text)).strip()
    if len(line) > longest:
        head = (longest - 1) * 2 // 3
        line = f"{line[:head].rstrip()}…{line[len(line) - (longest - 1 - head) :].lstrip()}"
    return line


def code(text: str, longest: int = 100) -> str:
    """Return a text as a code span, from which it cannot break out."""
    line = one_line(text, longest).replace("`", _BACKTICK_LOOKALIKE)
    # A pipe would end the cell of a table, in a code span too; we write no tables, a forge may.
    return f"`{line or '(empty)'}`"


def fenced(text: str, language: str = "", longest: int = 4_000) -> str:
    """Return a text of several lines as a fenced block; a longer text is cut at the end of a line."""
    shown = visible(text.replace("\r\n", "\n").replace("\r", "\n")[: longest + 1]).strip("\n")
    if len(shown) > longest:
        shown = shown[:longest].rpartition("\n")[0] + "\n…"
    shown = shown.replace("```", _BACKTICK_LOOKALIKE * 3).replace("~~~", "∼∼∼")
    return f"```{language}\n{shown}\n```"


def plain(text: str, longest: int = 60) -> str:
    """Return a name for a place that knows no Markdown, such as the name of a check: letters, digits and `._:/-`."""
    return re.sub(r"[^A-Za-z0-9._:/ -]+", "-", one_line(text, longest)).strip(" -/.:") or "image"
