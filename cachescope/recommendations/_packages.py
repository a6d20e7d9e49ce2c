"""What package managers read before they install, and where they keep what they downloaded."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson


@dataclass(frozen=True, slots=True, kw_only=True)
class Manager:
    """One package manager: how an install looks, what it reads, where its cache lies."""

    name: str
    install: re.Pattern[str]
    """Matches a whole command that installs from manifests alone."""
    manifests: tuple[str, ...] = ()
    """Files it reads, the necessary ones first; those that a repository lacks are left out."""
    required: int = 1
    """How many of the first manifests must be there."""
    cache: tuple[str, ...] = ()
    """Folders that a cache mount can keep; empty where a mount would change the image."""
    uses: re.Pattern[str] | None = None
    """Matches a command that downloads through the cache, for the cache mount; `install` where it is None."""


_FLAGS = r"(?: --?[\w-]{1,40}(?:[= ][\w.:/@-]{1,80}(?![\w.:/@-]))?){0,12}"

MANAGERS = (
    Manager(
        name="npm",
        install=re.compile(r"npm (?:ci|install|i|clean-install)(?: --?[\w-]{1,40}(?:=[\w.:/@-]{1,80})?){0,12}"),
        manifests=("package.json", "package-lock.json", "npm-shrinkwrap.json", ".npmrc"),
        cache=("/root/.npm",),
    ),
    Manager(
        name="pnpm",
        install=re.compile(r"pnpm (?:install|i)(?: --?[\w-]{1,40}(?:=[\w.:/@-]{1,80})?){0,12}"),
        manifests=("package.json", "pnpm-lock.yaml", "pnpm-workspace.yaml", ".npmrc"),
        required=2,
    ),
    Manager(
        name="Yarn",
        install=re.compile(r"yarn(?: install)?(?: --?[\w-]{1,40}(?:=[\w.:/@-]{1,80})?){0,12}"),
        manifests=("package.json", "yarn.lock", ".yarnrc", ".npmrc"),
        required=2,
        cache=("/usr/local/share/.cache/yarn",),
    ),
    Manager(
        name="pip",
        install=re.compile(
            r"(?:PIP_[A-Z_]{1,40}=\S{1,40} ){0,4}(?:python3? -m )?pip3? (?:--?[\w-]{1,40} ){0,4}install"
            r"(?: (?:(?:-r|--requirement|-c|--constraint|--target|-t|--prefix|-i|--index-url|--extra-index-url)[ =]"
            r"\S{1,200}|--?[\w-]{1,40}(?:=\S{1,100})?)){1,12}"
        ),
        cache=("/root/.cache/pip",),
        uses=re.compile(r"\bpip3? (?:--?[\w-]{1,40} ){0,4}install\b"),
    ),
    Manager(
        name="Bundler",
        install=re.compile(r"bundle install" + _FLAGS),
        manifests=("Gemfile", "Gemfile.lock", ".ruby-version"),
        required=2,
    ),
    Manager(
        name="Go modules",
        install=re.compile(r"go mod download(?: -x)?"),
        manifests=("go.mod", "go.sum"),
        cache=("/go/pkg/mod",),
    ),
    Manager(
        name="Composer",
        install=re.compile(r"composer install(?: --?[\w-]{1,40}(?:=[\w.:/@-]{1,80})?){0,12}"),
        manifests=("composer.json", "composer.lock"),
        required=2,
        cache=("/tmp/cache",),  # noqa: S108  # where the official image keeps it; a path inside a container
    ),
)
"""Only managers whose install from manifests is the same as after the whole context was copied."""

_SCRIPTS = frozenset(("preinstall", "install", "postinstall", "preprepare", "prepare", "postprepare", "prepublish"))
_REQUIREMENT = re.compile(r"(?:^|\s)(?:-r|--requirement|-c|--constraint)[ =](\S{1,200})")
_LOCAL = re.compile(r"^\s*(?:-e\b|--editable\b|\.{1,2}/|file:|[\w.-]+\s*@\s*file:|\.\s*$)", re.MULTILINE)


def manager_of(command: str) -> Manager | None:
    """Find the manager whose install a single command is."""
    return next((manager for manager in MANAGERS if manager.install.fullmatch(command)), None)


def needed_manifests(manager: Manager, command: str, files: Mapping[str, int] | None, folder: str) -> list[str]:
    """List the files that must be copied before an install, relative to the context; empty when that is not clear.

    `folder` is the folder of the context that the install works in, "" for its root.
    """
    prefix = f"{folder}/" if folder else ""
    if manager.name == "pip":
        return [prefix + name.strip("\"'") for name in _REQUIREMENT.findall(command)]
    if files is None:
        # A pattern that matches nothing copies nothing: a lock file may be missing.
        sure, perhaps = manager.manifests[: manager.required], manager.manifests[manager.required : 2]
        return [prefix + name for name in sure] + [f"{prefix}{name}*" for name in perhaps]
    found = [prefix + name for name in manager.manifests if prefix + name in files]
    necessary = [prefix + name for name in manager.manifests[: manager.required]]
    return found if all(name in found for name in necessary) else []


def complete_requirements(manifests: Sequence[str], texts: Mapping[str, str]) -> list[str] | None:
    """Add the files that requirement files include; None when one names a local package or cannot be read."""
    found = list(manifests)
    for name in found:
        text = texts.get(name)
        if text is None or _LOCAL.search(text):
            return None
        folder = name.rpartition("/")[0]
        for included in _REQUIREMENT.findall(text):
            path = f"{folder}/{included}" if folder else included
            if path not in found and len(found) < 20:
                found.append(path)
    return found


def runs_own_code(manager: Manager, manifests: Sequence[str], texts: Mapping[str, str]) -> bool:
    """Tell whether an install may need more than its manifests: scripts of the package, workspaces, local packages."""
    name = next((m for m in manifests if m.rpartition("/")[2] in ("package.json", "composer.json")), None)
    if name is None:
        return manager.name == "Bundler" and any(
            "gemspec" in texts.get(m, "") or "path:" in texts.get(m, "") for m in manifests
        )
    try:
        document = orjson.loads(texts.get(name, "null"))
    except orjson.JSONDecodeError:
        return True
    if not isinstance(document, dict):
        return True
    scripts = document.get("scripts")
    if isinstance(scripts, dict) and any(
        script in _SCRIPTS or (script.startswith("p") and "-cmd" in script) for script in scripts
    ):
        return True
    if document.get("workspaces") or document.get("repositories") or document.get("autoload", {}).get("classmap"):
        return True
    groups = [document.get(key) for key in ("dependencies", "devDependencies", "optionalDependencies")]
    versions = [v for group in groups if isinstance(group, dict) for v in group.values()]
    return any(isinstance(v, str) and v.startswith(("file:", "link:", "workspace:", "./", "../")) for v in versions)


def split_commands(text: str) -> list[str]:
    """Split a shell line at its `&&`; a line with anything else that steers a shell is one command."""
    parts = [" ".join(part.split()) for part in text.split("&&")]
    return parts if not re.search(r"[;|(){}`<>\"'\\$&]", text.replace("&&", "")) else [" ".join(text.split())]


def reads_only_manifests(
    manager: Manager, manifests: Sequence[str], files: Mapping[str, int] | None, texts: Mapping[str, str]
) -> bool:
    """Tell whether the files of the repository prove that an install reads its manifests and nothing else.

    What the install writes must not be in the context too, or a later COPY would lay the context's version over it.
    """
    if files is None or any(name not in texts for name in manifests if not name.endswith((".lock", ".sum"))):
        return False
    if runs_own_code(manager, manifests, texts):
        return False
    return not any(path.split("/", 1)[0] in INSTALLED for path in files)


INSTALLED = frozenset(("node_modules", "vendor", ".venv"))
"""Folders that installs write into the working directory."""
