"""How every plug-in folder finds its modules."""

import importlib
import pkgutil
from types import ModuleType
from typing import Any


def discover(package: ModuleType, constant: str) -> dict[str, Any]:
    """Import every module of a package except `base` and names starting with `_`, and collect one constant of each.

    The key is the module's name. The order is alphabetical. Raises AttributeError when a module lacks the constant.
    """
    names = sorted(name for _, name, _ in pkgutil.iter_modules(package.__path__))
    modules = {
        name: importlib.import_module(f"{package.__name__}.{name}")
        for name in names
        if name != "base" and not name.startswith("_")
    }
    return {name: getattr(module, constant) for name, module in modules.items()}
