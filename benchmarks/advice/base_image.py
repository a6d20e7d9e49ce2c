"""Makes the base image of the benchmark from Debian packages, without any other registry.

    DOCKER_HOST=unix:///… python benchmarks/advice/base_image.py [TAG] [--certificates FILE]

Needs root, debootstrap and a Debian mirror. TAG (`advice-base:1` where none is given) then holds Python, pip, Node,
npm, Go, make and gcc of Debian 12, as an image that `benchmarks/advice/run.py` can build on. FILE holds certificates
that pip and npm are to trust in it, for machines behind a proxy.
"""

import argparse
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

DOCKER = os.environ.get("DOCKER", "docker")
MIRROR = os.environ.get("DEBIAN_MIRROR")
"""Without one debootstrap takes its own default."""
FIRST = "ca-certificates,git,make,gcc,libc6-dev"
THEN = "python3 python3-pip python3-venv nodejs npm golang-go curl"
# pip refuses to install beside Debian's own packages, which in a container is what one wants.
REFUSAL = "usr/lib/python3*/EXTERNALLY-MANAGED"

BUNDLE = "etc/ssl/certs/proxy.pem"


def main() -> None:
    """Bootstrap Debian into a folder, install, and import the folder as an image."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tag", nargs="?", default="advice-base:1")
    parser.add_argument("--certificates", type=Path)
    arguments = parser.parse_args()
    settings = []
    tag = arguments.tag
    place = Path(tempfile.mkdtemp(prefix="advice-base-"))
    root = place / "root"
    try:
        run("debootstrap", "--variant=minbase", f"--include={FIRST}", "bookworm", str(root), *filter(None, [MIRROR]))
        shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
        install = ["apt-get", "install", "-y", "--no-install-recommends", *THEN.split()]
        run("chroot", str(root), "env", "DEBIAN_FRONTEND=noninteractive", *install)
        for path in [*root.glob("var/cache/apt/archives/*.deb"), *root.glob(REFUSAL)]:
            path.unlink()
        if arguments.certificates:
            shutil.copy(arguments.certificates, root / BUNDLE)
            settings = ["-c", f"ENV PIP_CERT=/{BUNDLE} NODE_EXTRA_CA_CERTS=/{BUNDLE} SSL_CERT_FILE=/{BUNDLE}"]
        archive = place / "root.tar"
        run(
            "tar",
            "-C",
            str(root),
            "--exclude=./proc/*",
            "--exclude=./sys/*",
            "--exclude=./dev/*",
            "-cf",
            str(archive),
            ".",
        )
        run(DOCKER, "import", *settings, "-c", 'CMD ["bash"]', str(archive), tag)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def run(*words: str) -> None:
    """Run a program; its failure ends this one."""
    subprocess.run(words, check=True)


if __name__ == "__main__":
    main()
