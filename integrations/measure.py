"""`cachescope measure`: Say what an image weighs, which instruction made each layer, how two versions differ."""

import base64
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import httpx
import orjson
import typer
from rich.console import Console
from rich.table import Table

from cachescope.cli.uploading import ATTEMPTS, MAX_ANSWER_BYTES, Server, explain, pause_seconds, problem_text
from cachescope.cli.words import duration, printable, size
from cachescope.errors import SettingsError, UploadError
from cachescope.images.comparing import Change, LayerChange, PlatformDifference, compare_images, short_text
from cachescope.images.contents import Contents
from cachescope.images.model import Layer, MeasuredImage, PlatformImage
from integrations.http import read_networks
from integrations.images import IMAGES
from integrations.images.base import DOCKER_HUB, Credentials, Measurement, Options, split_reference

EVERYWHERE = read_networks("0.0.0.0/0, ::/0")
"""Whoever types a reference may reach what their machine reaches; a server asks for networks instead."""


def command(
    references: Annotated[
        list[str], typer.Argument(help="An image, archive or folder; two print their difference.", metavar="REFERENCE")
    ],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    registry: Annotated[bool, typer.Option("--registry", help="Ask the registry, not the local engine.")] = False,
    insecure: Annotated[bool, typer.Option("--insecure", help="Speak plain HTTP with the registry.")] = False,
    archive: Annotated[bool, typer.Option("--archive", help="Read `docker save` files and OCI layouts.")] = False,
    files: Annotated[bool, typer.Option("--files", help="Read a folder of manifests, or of inspect output.")] = False,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read the layers: wasted bytes, largest files, caches left behind.")
    ] = False,
) -> None:
    """Say what an image weighs, which instruction made each layer, and what two versions differ in.

    Asks the local engine unless told otherwise. Sizes are compressed (what a registry keeps and a client pulls) or
    unpacked (what `docker history` prints); what a way of measuring cannot know is null.
    """
    if registry + archive + files > 1:
        raise SettingsError("Name one of --registry, --archive and --files.")
    if insecure and not registry:
        raise SettingsError("--insecure belongs to --registry.")
    if len(references) > 2:
        raise SettingsError(f"{len(references)} references were named: measure one, or compare two.")
    way = "oci_registry" if registry else "archive" if archive else "files" if files else "docker_engine"
    found = [
        IMAGES[way].measure(
            reference,
            Options(
                insecure=insecure,
                deep=deep,
                networks=EVERYWHERE,
                credentials=find_credentials(reference, os.environ) if registry else None,
            ),
        )
        for reference in references
    ]
    if as_json:
        document = measured_document(found[0]) if len(found) == 1 else compared_document(found[0], found[1])
        print(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
        return
    console = Console(highlight=False, markup=False, soft_wrap=False)
    if len(found) == 1:
        _print_measurement(console, found[0])
    else:
        _print_difference(console, found[0].image, found[1].image)


def push_image(
    reference: str,
    server: Server,
    parameters: Mapping[str, str],
    *,
    attempts: int = ATTEMPTS,
    notify: Callable[[str], None] = lambda _: None,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Measure an image of the local engine and send its sizes; returns where they can be seen. Raises UploadError."""
    measured = IMAGES["docker_engine"].measure(reference, Options())
    content = orjson.dumps(measured_document(measured))
    headers = {"Authorization": f"Bearer {server.token}", "Content-Type": "application/json"}
    problem = ""
    with httpx.Client(timeout=httpx.Timeout(30.0, connect=10.0), headers=headers) as client:
        for attempt in range(1, attempts + 1):
            pause = None
            try:
                answer = client.post(f"{server.url}/api/v1/images", params=dict(parameters), content=content)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                problem = f"{server.url} cannot be reached: {explain(error)}."
            else:
                if answer.is_success:
                    return f"{server.url}{answer.json()['page']}"
                problem = f"{server.url} refused the sizes: {problem_text(answer, answer.content[:MAX_ANSWER_BYTES])}"
                if answer.status_code not in (408, 425, 429) and answer.status_code < 500:
                    break
                pause = answer.headers.get("retry-after")
            if attempt < attempts:
                seconds = pause_seconds(attempt, pause)
                notify(f"{problem} Trying again in {duration(seconds)} ({attempt} of {attempts}).")
                sleep(seconds)
    raise UploadError(problem)


def find_credentials(reference: str, environment: Mapping[str, str]) -> Credentials | None:
    """Return who we are at a reference's registry.

    CACHESCOPE_REGISTRY_USER and CACHESCOPE_REGISTRY_PASSWORD come first, then Docker's own `config.json`, as far as it
    holds passwords itself; helpers are not asked.
    """
    if user := environment.get("CACHESCOPE_REGISTRY_USER"):
        return Credentials(user=user, password=environment.get("CACHESCOPE_REGISTRY_PASSWORD", ""))
    host = split_reference(reference)[0]
    folder = environment.get("DOCKER_CONFIG") or str(Path(environment.get("HOME", "/"), ".docker"))
    text = environment.get("DOCKER_AUTH_CONFIG")
    try:
        told = json.loads(text or Path(folder, "config.json").read_text())
        rows = told.get("auths", {})
        names = {host} | ({*DOCKER_HUB, "https://index.docker.io/v1/"} if host == "registry-1.docker.io" else set())
        for name, row in rows.items():
            if name in names or name.removeprefix("https://").rstrip("/") in names:
                user, _, password = base64.b64decode(row["auth"]).decode().partition(":")
                return Credentials(user=user, password=password.rstrip("\0"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # no such file, or not what Docker writes: go without
    return None


def measured_document(measured: Measurement) -> dict[str, Any]:
    """Return what was measured as the JSON that `--json` prints."""
    image = measured.image
    document: dict[str, Any] = {
        "reference": image.reference,
        "digest": image.digest,
        "platforms": [
            _platform_document(platform, measured.contents.get(platform.platform)) for platform in image.platforms
        ],
    }
    if image.warnings:
        document["warnings"] = list(image.warnings)
    return document


def _platform_document(platform: PlatformImage, contents: Contents | None) -> dict[str, Any]:
    document: dict[str, Any] = {
        "platform": platform.platform,
        "digest": platform.digest,
        "config_digest": platform.config_digest,
        "compressed_bytes": platform.compressed_bytes,
        "unpacked_bytes": platform.unpacked_bytes,
        "own_compressed_bytes": platform.own_compressed_bytes,
        "own_unpacked_bytes": platform.own_unpacked_bytes,
        "base_share": platform.base_share,
        "base_image": platform.base_image,
        "layers": [layer_document(layer) for layer in platform.layers],
    }
    if contents is not None:
        document["contents"] = contents_document(contents)
    return document


def layer_document(layer: Layer) -> dict[str, Any]:
    """Return a layer as JSON."""
    return {
        "digest": layer.digest,
        "diff_id": layer.diff_id,
        "instruction": layer.instruction,
        "compressed_bytes": layer.compressed_bytes,
        "unpacked_bytes": layer.unpacked_bytes,
        "base": layer.base,
    }


def contents_document(contents: Contents) -> dict[str, Any]:
    """Return what lies in the layers as JSON; paths hold no characters that a terminal would obey."""
    return {
        "wasted_bytes": contents.wasted_bytes,
        "base_wasted_bytes": contents.base_wasted_bytes,
        "wasted": [{**asdict(one), "path": _path(one.path)} for one in contents.wasted],
        "largest": [{**asdict(one), "path": _path(one.path)} for one in contents.largest],
        "caches": [asdict(one) for one in contents.caches],
        "rewritten": [
            {"layer": layer, "rewritten_by": by, "size_bytes": written}
            for (layer, by), written in sorted(contents.rewritten.items(), key=lambda one: -one[1])[:20]
            if written
        ],
        "files": contents.files,
        "complete": contents.complete,
    }


def _path(text: str) -> str:
    return printable(text[:1000])


def compared_document(before: Measurement, after: Measurement) -> dict[str, Any]:
    """Return two measurements and what differs as JSON."""
    return {
        "before": measured_document(before),
        "after": measured_document(after),
        "difference": [difference_document(one) for one in compare_images(before.image, after.image)],
    }


def difference_document(difference: PlatformDifference) -> dict[str, Any]:
    """Return what differs between two versions of a platform as JSON."""
    blamed = difference.blamed
    return {
        "platform": difference.platform,
        "compressed_growth_bytes": difference.compressed_growth,
        "unpacked_growth_bytes": difference.unpacked_growth,
        "pull_churn_bytes": difference.pull_churn_bytes,
        "blamed": _change_document(blamed) if blamed else None,
        "layers": [_change_document(change) for change in difference.layers],
    }


def _change_document(change: LayerChange) -> dict[str, Any]:
    return {
        "change": change.change,
        "instruction": change.instruction,
        "base": change.is_base,
        "compressed_growth_bytes": change.compressed_growth,
        "unpacked_growth_bytes": change.unpacked_growth,
        "before": layer_document(change.before) if change.before else None,
        "after": layer_document(change.after) if change.after else None,
    }


def show_bytes(count: int | None) -> str:
    """Write a size for people; what is not known says so."""
    return "unknown" if count is None else size(count)


def _growth(count: int | None) -> str:
    return "unknown" if count is None else ("+" if count > 0 else "−" if count < 0 else "") + size(abs(count))


def _sizes(platform: PlatformImage) -> str:
    parts = [f"{show_bytes(platform.compressed_bytes)} compressed"] if platform.compressed_bytes is not None else []
    parts += [f"{show_bytes(platform.unpacked_bytes)} unpacked"] if platform.unpacked_bytes is not None else []
    share = platform.base_share
    if share is not None:
        parts.append(f"{share:.0%} of it the base image" + (f" {platform.base_image}" if platform.base_image else ""))
    return ", ".join(parts) or "sizes unknown"


def _words(instruction: str | None, base: bool | None) -> str:
    text = printable(short_text(instruction or "")) or ("base image" if base else "unknown")
    return text if len(text) <= 100 else f"{text[:60]} … {text[-37:]}"


def _print_measurement(console: Console, measured: Measurement) -> None:
    for platform in measured.image.platforms:
        console.print(f"{printable(measured.image.reference)}  {printable(platform.platform)}: {_sizes(platform)}")
        table = Table(box=None, pad_edge=False)
        table.add_column("layer", justify="right")
        table.add_column("compressed", justify="right")
        table.add_column("unpacked", justify="right")
        table.add_column("instruction", overflow="fold")
        for number, layer in enumerate(platform.layers, start=1):
            mark = " (base)" if layer.base and layer.instruction else ""
            table.add_row(
                str(number),
                show_bytes(layer.compressed_bytes),
                show_bytes(layer.unpacked_bytes),
                _words(layer.instruction, layer.base) + mark,
            )
        console.print(table)
        if (contents := measured.contents.get(platform.platform)) is not None:
            _print_contents(console, contents)
    for warning in measured.image.warnings:
        console.print(f"Note: {printable(warning)}")


def _print_contents(console: Console, contents: Contents) -> None:
    bound = "" if contents.complete else "at least "
    console.print(
        f"Wasted: {bound}{show_bytes(contents.wasted_bytes)} overwritten or deleted by later layers, "
        f"{show_bytes(contents.base_wasted_bytes)} more of it in the base image."
    )
    for one in contents.wasted[:10]:
        fate = f"{'deleted' if one.deleted else 'overwritten'} by {one.hidden_by + 1}"
        console.print(f"  {show_bytes(one.size_bytes):>10}  {_path(one.path)}  (layer {one.layer + 1}, {fate})")
    for cache in contents.caches:
        console.print(
            f"Left behind: {show_bytes(cache.size_bytes)} of {cache.name} in layer {cache.layer + 1}: {cache.cure}."
        )
    console.print("Largest files:")
    for large in contents.largest[:10]:
        console.print(f"  {show_bytes(large.size_bytes):>10}  {_path(large.path)}  (layer {large.layer + 1})")


def _print_difference(console: Console, before: MeasuredImage, after: MeasuredImage) -> None:
    found = compare_images(before, after)
    if not found:
        console.print(f"{printable(before.reference)} and {printable(after.reference)} share no platform.")
    for one in found:
        console.print(
            f"{printable(before.reference)} → {printable(after.reference)}  {printable(one.platform)}: "
            f"{_growth(one.compressed_growth)} compressed, {_growth(one.unpacked_growth)} unpacked"
        )
        if one.blamed is not None:
            console.print(f"Most of it: {_words(one.blamed.instruction, one.blamed.is_base)} ({one.blamed.change})")
        if one.pull_churn_bytes is not None:
            console.print(f"Pull churn: {show_bytes(one.pull_churn_bytes)} that whoever has the older version pulls.")
        table = Table(box=None, pad_edge=False)
        for heading in ("", "compressed", "unpacked"):
            table.add_column(heading, justify="right")
        table.add_column("instruction", overflow="fold")
        for change in one.layers:
            if change.change is not Change.SAME:
                growths = (_growth(change.compressed_growth), _growth(change.unpacked_growth))
                table.add_row(change.change, *growths, _words(change.instruction, change.is_base))
        same = sum(change.change is Change.SAME for change in one.layers)
        console.print(table)
        console.print(f"{same} of {len(one.layers)} layers are the same.")
