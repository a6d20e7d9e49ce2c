"""What the web process does not load: it starts twice as fast without."""

import subprocess
import sys

import pytest

from tests.serving import ROOT


@pytest.mark.parametrize("module", ["asgi", "service.app", "workers.app", "workers.schedule"])
def test_the_web_application_loads_neither_pandas_nor_plotly_express(module: str) -> None:
    code = (
        f"import sys, {module}; print([name for name in ('pandas', 'plotly.express', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr
