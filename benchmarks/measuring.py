"""How fast and in how much memory `measure --deep` reads layers, beside `tar -t` on the same ones.

    python benchmarks/measuring.py [MEGABYTES]

Makes an OCI layout of files of a real tree (/usr/share and /usr/bin) up to so many megabytes, packed with gzip. Time is
CPU time of all processes, so that a busy machine does not decide.
"""

import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path


def make_layer(path: Path, megabytes: int) -> None:
    """Pack files of this machine into a layer."""
    left = megabytes * 1_000_000
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for root in ("/usr/bin", "/usr/share"):
            for folder, _, names in os.walk(root):
                for name in names:
                    file = Path(folder, name)
                    if left > 0 and file.is_file() and not file.is_symlink():
                        archive.add(file, recursive=False)
                        left -= file.stat().st_size


def make_layout(folder: Path, layer: Path) -> None:
    """Write an OCI layout of one layer."""
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)

    def keep(content: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(content)}

    # A child's peak memory counts what this process holds when it forks: the layer never lies in it.
    with layer.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    size = layer.stat().st_size
    shutil.copyfile(layer, blobs / digest)
    packed = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": f"sha256:{digest}", "size": size}
    config = {"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": [packed["digest"]]}}
    document = {"schemaVersion": 2, "layers": [packed], "config": keep(json.dumps(config).encode(), "config.v1+json")}
    manifest = keep(json.dumps(document).encode(), "manifest.v1+json")
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))


def seconds_of(*command: str) -> float:
    """Run a command and return the CPU time of it and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure and print."""
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as folder:
        layer, layout = Path(folder, "layer.tar.gz"), Path(folder, "layout")
        make_layer(layer, megabytes)
        make_layout(layout, layer)
        listing = min(seconds_of("tar", "-tzf", str(layer)) for _ in range(2))
        deep = ("-m", "cachescope", "measure", "--archive", "--deep", "--json", str(layout))
        reading = min(seconds_of(sys.executable, *deep) for _ in range(2))
        used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"tar -tz {listing:.2f} s, measure --deep {reading:.2f} s: {listing / reading:.2f} of its speed")
    print(f"memory at most {used:.0f} MB (of any process)")


if __name__ == "__main__":
    main()
