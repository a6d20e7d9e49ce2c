"""What package managers read before they install, and where they keep what they downloaded."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
        # No mount: what `go mod download` fetched into one would be missing in the build below it.
        manifests=("go.mod", "go.sum"),
    ),
    Manager(
        name="Composer",
        install=re.compile(r"composer install(?: --?[\w-]{1,40}(?:=[\w.:/@-]{1,80})?){0,12}"),
        manifests=("composer.json", "composer.lock"),
        required=2,
    ),
)
"""Only managers whose install from manifests is the same as after the whole context was copied."""

_SCRIPTS = frozenset(("preinstall", "install", "postinstall", "preprepare", "prepare", "postprepare", "prepublish"))
_REQUIREMENT = re.compile(r"(?:^|\s)(?:-r|--requirement|-c|--constraint)[ =](\S{1,200})")
_LOCAL = re.compile(
    r"^\s*(?:-e\b|--editable\b|-f\b|--find-links\b|-[rc]\S|\.{1,2}/|/|file:|[\w.,\[\]-]+\s*@\s*file:|\.\s*$"
    r"|[\w.-]+/[^\s@]*\s*$|\S+\.(?:whl|zip|tar\.gz)\s*$)",
    re.MULTILINE,
)
"""Lines of a requirements file that name what lies in the context."""


_ELSEWHERE = re.compile(
    r"(?<!\S)(?:--(?:prefix|cwd|dir|directory|working-dir|gemfile|workspaces?|filter|modules-folder|offline)|-[Cw])"
    r"(?=[= ]|$)"
)
_PIP_ELSEWHERE = re.compile(r"(?<!\S)--find-links\b|\bPIP_(?:CONSTRAINT|FIND_LINKS|REQUIREMENT|CONFIG_FILE)=")
"""Options that make an install read other folders or files than the manifests of the working folder."""

_CLEANS = re.compile(
    r"(?:npm cache clean|yarn cache clean|pnpm store prune|pip3? cache purge|composer clear-?cache"
    r"|rm -rf (?:/root|~)/\.)"
    r"[^&;|]{0,80}"
)


def manager_of(command: str) -> Manager | None:
    """Find the manager whose install a single command is; None for one that works elsewhere."""
    found = next((manager for manager in MANAGERS if manager.install.fullmatch(command)), None)
    is_pip = found is not None and found.name == "pip"
    return None if (_PIP_ELSEWHERE if is_pip else _ELSEWHERE).search(command) else found


def is_cleaning(command: str) -> bool:
    """Tell whether a command only throws away what an install before it downloaded."""
    return _CLEANS.fullmatch(command) is not None


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


def needs_more(manager: Manager, command: str, files: Mapping[str, int] | None, texts: Mapping[str, str]) -> bool:
    """Tell whether an install is known to read more than its manifests, or to look at the sources: it must stay below.

    Unlike `runs_own_code` this holds only what is known; without the files of a repository nothing is.
    """
    present = files or {}
    if manager.name in ("npm", "pnpm", "Yarn"):
        if any(name == ".yarnrc.yml" or name.startswith((".yarn/", "patches/")) for name in present):
            return True
        is_workspace = "pnpm-workspace.yaml" in present and "packages:" in texts.get("pnpm-workspace.yaml", "packages:")
        return is_workspace or _package_needs_more(texts.get("package.json"))
    if manager.name == "Composer":
        return bool(_OPTIMIZES.search(command)) or _composer_needs_more(texts.get("composer.json"), command)
    if manager.name == "Go modules":
        return "go.work" in present or bool(_GO_LOCAL.search(texts.get("go.mod", "")))
    if manager.name == "Bundler":
        return bool(_GEM_LOCAL.search(texts.get("Gemfile", "")))
    return False


_OPTIMIZES = re.compile(r"(?<!\S)(?:-o|-a|--optimize-autoloader|--classmap-authoritative|--apcu-autoloader)(?!\S)")
_GO_LOCAL = re.compile(r"=>\s*\.{0,2}/")
_GEM_LOCAL = re.compile(
    r"\bgemspec\b|\bpath:|:path\b|\b(?:eval_gemfile|require_relative|instance_eval)\b|\bFile\.|\bDir[.\[]"
)
_HARMLESS = re.compile(r"(?:husky(?: install)?|is-ci|true|exit 0|npx only-allow \w+|only-allow \w+|echo [^&;|]{0,200})")


def _document(text: str | None) -> dict[str, Any]:
    try:
        document = orjson.loads(text) if text is not None else {}
    except orjson.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}


def _package_needs_more(text: str | None) -> bool:
    document = _document(text)
    scripts = document.get("scripts")
    own = [words for name, words in (scripts.items() if isinstance(scripts, dict) else ()) if name in _SCRIPTS]
    if any(not _is_harmless(words) for words in own):
        return True
    groups = [document.get(key) for key in ("dependencies", "devDependencies", "optionalDependencies")]
    versions = [v for group in groups if isinstance(group, dict) for v in group.values()]
    is_local = any(
        isinstance(v, str) and v.startswith(("file:", "link:", "workspace:", "portal:", ".")) for v in versions
    )
    settings = document.get("pnpm")
    is_patched = isinstance(settings, dict) and bool(settings.get("patchedDependencies"))
    return bool(document.get("workspaces")) or is_local or is_patched


def _is_harmless(script: Any) -> bool:
    commands = re.split(r"&&|\|\||;", script) if isinstance(script, str) else [""]
    return all(_HARMLESS.fullmatch(command.strip()) for command in commands)


def _composer_needs_more(text: str | None, command: str) -> bool:
    document = _document(text)
    scripts = document.get("scripts")
    runs = isinstance(scripts, dict) and any(str(name).startswith(("pre-", "post-")) for name in scripts)
    config, repositories = document.get("config"), document.get("repositories")
    kinds = config if isinstance(config, dict) else {}
    is_optimized = bool(kinds.get("optimize-autoloader") or kinds.get("classmap-authoritative"))
    autoload = document.get("autoload")
    is_scanned = isinstance(autoload, dict) and bool(autoload.get("classmap"))
    return (runs and "--no-scripts" not in command) or is_optimized or is_scanned or "path" in str(repositories or "")


def split_commands(text: str) -> list[str]:
    """Split a shell line at its `&&`; a line with anything else that steers a shell is one command."""
    parts = [" ".join(part.split()) for part in text.split("&&")]
    return parts if not re.search(r"[;|(){}`<>\"'\\$&]", text.replace("&&", "")) else [" ".join(text.split())]


def reads_only_manifests(
    manager: Manager,
    command: str,
    manifests: Sequence[str],
    files: Mapping[str, int] | None,
    texts: Mapping[str, str],
) -> bool:
    """Tell whether the files of the repository prove that an install reads its manifests and nothing else.

    What the install writes must not be in the context too, or a later COPY would lay the context's version over it.
    """
    if files is None or any(name not in texts for name in manifests if not name.endswith((".lock", ".sum"))):
        return False
    if runs_own_code(manager, manifests, texts):
        return False
    locks = [name for name in manifests if name.rpartition("/")[2] in _REWRITTEN]
    if locks and not _FROZEN.search(command):
        return False
    return not any(path.split("/", 1)[0] in INSTALLED for path in files)


_REWRITTEN = frozenset(("package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", "Gemfile.lock"))
"""Lock files that an install may write anew unless it is told not to."""
_FROZEN = re.compile(
    r"npm (?:ci|clean-install)\b|--(?:frozen-lockfile|immutable|frozen|deployment|no-save|no-package-lock)\b"
)

INSTALLED = frozenset(("node_modules", "vendor", ".venv"))
"""Folders that installs write into the working directory."""
