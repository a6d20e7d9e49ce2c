"""The projects and changes of `cause_pairs.py`: small repositories, each with features that Dockerfiles really use."""

from cause_pairs import (
    Case,
    Project,
    append,
    both,
    delete,
    link,
    mode,
    rename,
    replace,
    write,
)

HARVEST = Project(
    name="harvest",
    files={
        "Dockerfile": """# syntax-free
ARG TOOLS=BASE
ARG RUNTIME=BASE

FROM ${TOOLS} AS grind
WORKDIR /grind
COPY conf-?.ini *.list ./
RUN cat conf-a.ini conf-b.ini > all.ini && sleep 0.2
COPY --chmod=755 bin/ bin/
ADD grain.txt grains/
RUN sh bin/grind.sh grains > flour.txt

FROM ${RUNTIME} AS shop
ENV SHOP_HOME=/shop
WORKDIR ${SHOP_HOME}
COPY --from=grind /grind/all.ini all.ini
COPY --from=grind /grind/flour.txt stock/
COPY signs/current signs/
LABEL org.example.shop="mill"
RUN ls -R . > inventory.txt && sleep 0.2
CMD ["cat", "inventory.txt"]
""",
        ".dockerignore": "*\n!conf-*.ini\n!*.list\nsecret.list\n!bin\nbin/*.md\n!grain.txt\n!signs\n",
        "conf-a.ini": "a=1\n",
        "conf-b.ini": "b=1\n",
        "conf-long.ini": "l=1\n",
        "sorts.list": "rye\n",
        "secret.list": "none\n",
        "bin/grind.sh": "#!/bin/sh\ncat $1/*.txt; wc -c $1/grain.txt\n",
        "bin/help.md": "# help\n",
        "grain.txt": "grain\n",
        "notes.txt": "notes\n",
        "signs/open.txt": "open\n",
        "signs/closed.txt": "closed\n",
    },
    links={"signs/current": "open.txt"},
)

LANTERN = Project(
    name="lantern",
    files={
        "Dockerfile": """FROM BASE
SHELL ["/bin/sh", "-ec"]
ENV WICK=cotton \\
    OIL="olive"
RUN <<EOF
echo $WICK $OIL > /lamp
sleep 0.2
EOF
COPY <<settings.txt /etc/lantern/
brightness=5
settings.txt
COPY glass/ /glass/
RUN cat /glass/*.txt > /pane

FROM BASE
USER root
COPY --from=0 /pane /lamp /srv/
ARG SHADE=amber
ARG BUILD_NUMBER
RUN echo shade $SHADE > /srv/shade
RUN sleep 0.3; echo lit > /srv/lit
HEALTHCHECK CMD true
""",
        "glass/clear.txt": "clear\n",
        "glass/green.txt": "green\n",
        "README.md": "# Lantern\n",
    },
)

ORCHARD = Project(
    name="orchard",
    files={
        "Dockerfile": """FROM orchard-base:1
COPY ladder.txt /orchard/
RUN cat /orchard/ladder.txt && sleep 0.2
""",
        "trees.txt": "apple\n",
        "ladder.txt": "ladder\n",
        "fence.txt": "fence\n",
    },
    bases={
        "orchard-base:1": """FROM BASE
ONBUILD COPY trees.txt /orchard/
ONBUILD RUN sort /orchard/trees.txt > /orchard/sorted
"""
    },
)

FERRY = Project(
    name="ferry",
    bake=True,
    records=2,
    files={
        "Dockerfile": """FROM BASE AS hull
WORKDIR /hull
COPY hull/ .
RUN cat * > hull.txt && sleep 0.2

FROM hull AS deck
ARG COLOR
ARG ROUTE=north
RUN echo $ROUTE > route.txt
COPY deck/ deck/
RUN cat deck/* > deck.txt

FROM hull AS engine
COPY engine/ engine/
RUN cat engine/* > engine.txt && sleep 0.1
""",
        "docker-bake.hcl": """group "default" {
  targets = ["deck", "engine"]
}
target "_common" {
  dockerfile = "Dockerfile"
  network = "host"
}
target "deck" {
  inherits = ["_common"]
  target = "deck"
  args = { ROUTE = "south", COLOR = "red" }
  tags = ["deck:1"]
}
target "engine" {
  inherits = ["_common"]
  target = "engine"
  tags = ["engine:1"]
}
""",
        "hull/plank.txt": "plank\n",
        "deck/chair.txt": "chair\n",
        "engine/piston.txt": "piston\n",
    },
)

KILN = Project(
    name="kiln",
    options=["--target", "fired"],
    files={
        "Dockerfile": """FROM BASE AS base
ENV HEAT=900
FROM base AS glaze
RUN --mount=type=cache,target=/var/cache/glaze date +%s > /dev/null; echo glaze $HEAT > /glaze
FROM base AS clay
ARG KILN_ID
COPY clay/ /clay/
RUN --mount=type=bind,source=moulds,target=/moulds cat /moulds/* > /clay/moulds
FROM clay AS fired
COPY --from=glaze /glaze /clay/
RUN cat /clay/* > /pot && sleep 0.2
FROM clay AS checks
RUN test -s /clay/moulds
""",
        "clay/red.txt": "red\n",
        "moulds/jug.txt": "jug\n",
        "moulds/bowl.txt": "bowl\n",
        "checks/a.txt": "a\n",
    },
)

MOSAIC = Project(
    name="mosaic",
    context="floors",
    dockerfile="deploy/floor.Dockerfile",
    files={
        "deploy/floor.Dockerfile": """FROM BASE
WORKDIR /floor
COPY tiles/*.tile tiles/
RUN cat tiles/*.tile > pattern && sleep 0.2
COPY . .
RUN find . -type f | sort > files
""",
        "deploy/floor.Dockerfile.dockerignore": "**/*.tmp\n**/drafts\n!tiles/drafts/kept.txt\n",
        "floors/tiles/a.tile": "a\n",
        "floors/tiles/b.tile": "b\n",
        "floors/tiles/drafts/kept.txt": "kept\n",
        "floors/tiles/drafts/rough.txt": "rough\n",
        "floors/plan/hall.txt": "hall\n",
        "walls/brick.txt": "brick\n",
    },
)

PULLEY = Project(
    name="pulley",
    files={
        "Dockerfile": """ARG VARIANT=plain
FROM BASE AS rope-plain
RUN echo plain > /rope
FROM BASE AS rope-wire
RUN echo wire > /rope
FROM rope-${VARIANT} AS rope
RUN cat /rope > /rope2 && sleep 0.1
FROM BASE
ARG LOAD=10
ENV MAX_LOAD=${LOAD}
RUN echo $MAX_LOAD > /load
WORKDIR /pulley
COPY --chown=1000:1000 wheels.txt ./
COPY --from=rope /rope2 .
USER 1000
RUN cat wheels.txt > /tmp/wheels && sleep 0.2
ENTRYPOINT ["cat"]
CMD ["/tmp/wheels"]
""",
        "wheels.txt": "wheel\n",
        "unused.txt": "unused\n",
    },
)

BEACON = Project(
    name="beacon",
    files={
        "Dockerfile": """FROM BASE AS base
ENV LIGHT=white

FROM base AS deps
WORKDIR /app
COPY package.list lock.list ./
RUN cat *.list > modules && sleep 0.2

FROM base AS builder
WORKDIR /app
COPY --from=deps /app/modules ./modules
COPY . .
ARG RELEASE=dev
RUN cat src/*.txt modules > bundle && sleep 0.2

FROM base AS runner
WORKDIR /app
RUN echo user > /etc/lamp-user
COPY --from=builder /app/bundle ./
COPY public ./public
USER 1000
CMD ["cat", "bundle"]
""",
        ".dockerignore": ".git\ndocs\n",
        "package.list": "lamp\n",
        "lock.list": "lamp=1\n",
        "src/main.txt": "main\n",
        "public/logo.txt": "logo\n",
        "docs/a.txt": "a\n",
    },
)

PROJECTS = {p.name: p for p in (BEACON, HARVEST, LANTERN, ORCHARD, FERRY, KILN, MOSAIC, PULLEY)}

DOCKERFILE = "Dockerfile"
FILES = "files_changed"
TEXT = "instruction_changed"
ARG = "build_arg_changed"

CASES = [
    # harvest: globs, negated ignore rules, ADD, --chmod, a link
    Case("harvest", "glob-first-source", FILES, append("conf-b.ini", "c=2\n"), ("conf-b.ini",)),
    Case("harvest", "glob-not-matched", None, append("conf-long.ini", "c=2\n")),
    Case("harvest", "glob-new-file", FILES, write("more.list", "oat\n"), ("more.list",)),
    Case("harvest", "ignored-by-a-later-rule", None, append("secret.list", "x\n")),
    Case("harvest", "ignored-below-a-negation", None, append("bin/help.md", "x\n")),
    Case("harvest", "ignored-by-star", None, append("notes.txt", "x\n")),
    Case("harvest", "add-source", FILES, append("grain.txt", "more\n"), ("grain.txt",)),
    Case("harvest", "script-in-folder", FILES, append("bin/grind.sh", "# x\n"), ("bin/grind.sh",)),
    Case("harvest", "mode-under-chmod", FILES, mode("bin/grind.sh", 0o644), ("bin/grind.sh",)),
    Case("harvest", "mode-of-add", FILES, mode("grain.txt", 0o755), ("grain.txt",)),
    Case("harvest", "file-deleted", FILES, delete("sorts.list"), ("sorts.list",)),
    Case("harvest", "file-renamed", FILES, rename("sorts.list", "kinds.list"), ("kinds.list", "sorts.list")),
    Case("harvest", "link-elsewhere", FILES, link("signs/current", "closed.txt"), ("signs/current",)),
    Case("harvest", "behind-the-link", FILES, append("signs/open.txt", "now\n"), ("signs/open.txt",)),
    Case("harvest", "label-edited", None, replace(DOCKERFILE, '"mill"', '"mill two"')),
    Case("harvest", "workdir-env-edited", TEXT, replace(DOCKERFILE, "SHOP_HOME=/shop", "SHOP_HOME=/mill")),
    Case("harvest", "run-edited", TEXT, replace(DOCKERFILE, "ls -R .", "ls -lR .")),
    Case(
        "harvest", "copy-inserted", TEXT, replace(DOCKERFILE, "COPY --chmod", "COPY grain.txt copy.txt\nCOPY --chmod")
    ),
    Case(
        "harvest",
        "run-removed",
        TEXT,
        replace(DOCKERFILE, "RUN cat conf-a.ini conf-b.ini > all.ini && sleep 0.2\n", "RUN cp conf-a.ini all.ini\n"),
    ),
    Case(
        "harvest",
        "default-of-global-arg",
        TEXT,
        replace(DOCKERFILE, "ARG RUNTIME=BASE".replace("BASE", "debian:bookworm-slim"), "ARG RUNTIME=toolbox:1"),
    ),
    Case("harvest", "base-by-argument", ARG, None, options=["--build-arg", "RUNTIME=toolbox:1"], expected=False),
    Case(
        "harvest", "ignore-rule-added", FILES, append(".dockerignore", "sorts.list\n"), ("sorts.list", ".dockerignore")
    ),
    Case("harvest", "no-cache", "no_cache_requested", None, options=["--no-cache"], expected=False),
    Case(
        "harvest", "no-cache-filter", "no_cache_requested", None, options=["--no-cache-filter", "shop"], expected=False
    ),
    Case("harvest", "pruned", "cache_lost", None, prune=True, expected=False),
    Case("harvest", "nothing", None),
    Case(
        "harvest",
        "first-and-second-stage",
        FILES,
        both(append("conf-a.ini", "x\n"), append("signs/open.txt", "x\n")),
        ("conf-a.ini",),
        other_files={"COPY signs": ("signs/open.txt",)},
    ),
    Case("harvest", "base-moved", "base_image_changed", None, move_base="debian:bookworm-slim", expected=False),
    # lantern: heredocs, another shell, variables, unnamed stages
    Case("lantern", "heredoc-body", TEXT, replace(DOCKERFILE, "sleep 0.2\nEOF", "sleep 0.21\nEOF")),
    Case("lantern", "heredoc-file", TEXT, replace(DOCKERFILE, "brightness=5", "brightness=6")),
    Case("lantern", "env-edited", TEXT, replace(DOCKERFILE, 'OIL="olive"', 'OIL="palm"')),
    Case("lantern", "env-added", TEXT, replace(DOCKERFILE, "WICK=cotton", "WICK=cotton FLAME=blue")),
    Case("lantern", "shell-edited", TEXT, replace(DOCKERFILE, '"-ec"', '"-c"')),
    Case("lantern", "folder-file", FILES, append("glass/clear.txt", "x\n"), ("glass/clear.txt",)),
    Case("lantern", "unread-file", None, append("README.md", "x\n")),
    Case("lantern", "arg-default", TEXT, replace(DOCKERFILE, "SHADE=amber", "SHADE=red")),
    Case("lantern", "arg-given", ARG, None, options=["--build-arg", "SHADE=blue"], expected=False),
    Case(
        "lantern",
        "arg-unused",
        ARG,
        None,
        options_before=["--build-arg", "BUILD_NUMBER=1"],
        options=["--build-arg", "BUILD_NUMBER=2"],
        expected=False,
    ),
    Case("lantern", "arg-undeclared", None, None, options=["--build-arg", "NOBODY=1"]),
    Case("lantern", "arg-first-given", ARG, None, options=["--build-arg", "BUILD_NUMBER=7"], expected=False),
    Case("lantern", "comment", None, replace(DOCKERFILE, "USER root", "# as root\nUSER root")),
    Case("lantern", "user-edited", TEXT, replace(DOCKERFILE, "USER root", "USER 0:0")),
    Case("lantern", "white-space", None, replace(DOCKERFILE, "COPY --from=0", "COPY  --from=0")),
    Case(
        "lantern",
        "run-moved",
        TEXT,
        replace(
            DOCKERFILE,
            "RUN echo shade $SHADE > /srv/shade\nRUN sleep 0.3; echo lit > /srv/lit",
            "RUN sleep 0.3; echo lit > /srv/lit\nRUN echo shade $SHADE > /srv/shade",
        ),
    ),
    Case(
        "lantern",
        "file-and-env-below",
        FILES,
        both(append("glass/green.txt", "y\n"), replace(DOCKERFILE, "echo lit", "echo lit up")),
        ("glass/green.txt",),
    ),
    Case("lantern", "pruned", "cache_lost", None, prune=True, expected=False),
    Case("lantern", "no-cache", "no_cache_requested", None, options=["--no-cache"], expected=False),
    Case("lantern", "umask", FILES, None, unrecorded=mode("glass/green.txt", 0o600), expected=False),
    # orchard: triggers of the base
    Case("orchard", "onbuild-source", FILES, append("trees.txt", "pear\n"), ("trees.txt",)),
    Case("orchard", "own-source", FILES, append("ladder.txt", "x\n"), ("ladder.txt",)),
    Case("orchard", "unread", None, append("fence.txt", "x\n")),
    Case("orchard", "run-edited", TEXT, replace(DOCKERFILE, "sleep 0.2", "sleep 0.1")),
    # ferry: bake, a shared stage
    Case("ferry", "shared-source", FILES, append("hull/plank.txt", "x\n"), ("hull/plank.txt",)),
    Case("ferry", "one-target-source", FILES, append("engine/piston.txt", "x\n"), ("engine/piston.txt",)),
    Case("ferry", "bake-argument", ARG, None, options=["--set", "deck.args.COLOR=blue"], expected=False),
    Case("ferry", "bake-argument-used", ARG, None, options=["--set", "deck.args.ROUTE=east"], expected=False),
    Case(
        "ferry", "bake-no-cache", "no_cache_requested", None, options=["--set", "engine.no-cache=true"], expected=False
    ),
    Case("ferry", "run-edited", TEXT, replace(DOCKERFILE, "cat deck/*", "cat ./deck/*")),
    Case("ferry", "nothing", None),
    # kiln: --target, mounts, stages on a stage without steps
    Case("kiln", "bind-mount", FILES, append("moulds/jug.txt", "x\n"), ("moulds/jug.txt",)),
    Case("kiln", "unbuilt-stage", None, replace(DOCKERFILE, "test -s /clay/moulds", "test -s /clay/moulds && true")),
    Case("kiln", "env-of-shared-base", TEXT, replace(DOCKERFILE, "HEAT=900", "HEAT=950")),
    Case("kiln", "source", FILES, append("clay/red.txt", "x\n"), ("clay/red.txt",)),
    Case("kiln", "argument", ARG, None, options=["--build-arg", "KILN_ID=4"], expected=False),
    Case("kiln", "other-target", "first_build", None, options=["--target", "checks"]),
    Case("kiln", "filter-glaze", "no_cache_requested", None, options=["--no-cache-filter", "glaze"], expected=False),
    Case(
        "kiln",
        "two-stages-edited",
        TEXT,
        both(
            replace(DOCKERFILE, "echo glaze", "echo glazed"),
            replace(DOCKERFILE, "cat /moulds/*", "cat  /moulds/jug.txt"),
        ),
    ),
    # mosaic: a context below the root, a Dockerfile outside of it with its own ignore file
    Case("mosaic", "tile", FILES, append("floors/tiles/a.tile", "x\n"), ("tiles/a.tile",)),
    Case("mosaic", "broad-only", FILES, append("floors/plan/hall.txt", "x\n"), ("plan/hall.txt",)),
    Case("mosaic", "outside-the-context", None, append("walls/brick.txt", "x\n")),
    Case("mosaic", "ignored-folder", None, append("floors/tiles/drafts/rough.txt", "x\n")),
    Case("mosaic", "brought-back", FILES, append("floors/tiles/drafts/kept.txt", "x\n"), ("tiles/drafts/kept.txt",)),
    Case("mosaic", "ignored-pattern", None, write("floors/plan/new.tmp", "x\n")),
    Case("mosaic", "new-file", FILES, write("floors/plan/attic.txt", "x\n"), ("plan/attic.txt",)),
    Case("mosaic", "pruned", "cache_lost", None, prune=True, expected=False),
    # pulley: a stage that an argument picks, variables from arguments, an owner
    Case("pulley", "variant-by-argument", ARG, None, options=["--build-arg", "VARIANT=wire"], expected=False),
    Case("pulley", "variant-by-default", TEXT, replace(DOCKERFILE, "VARIANT=plain", "VARIANT=wire")),
    Case("pulley", "env-from-argument", ARG, None, options=["--build-arg", "LOAD=20"], expected=False),
    Case("pulley", "env-from-default", TEXT, replace(DOCKERFILE, "LOAD=10", "LOAD=30")),
    Case("pulley", "chown-edited", TEXT, replace(DOCKERFILE, "1000:1000", "1000:1001")),
    Case("pulley", "source", FILES, append("wheels.txt", "x\n"), ("wheels.txt",)),
    Case("pulley", "unread", None, append("unused.txt", "x\n")),
    Case("pulley", "command-edited", None, replace(DOCKERFILE, '["cat"]', '["head"]')),
    Case("pulley", "user-edited", TEXT, replace(DOCKERFILE, "USER 1000", "USER 1001")),
    Case(
        "pulley",
        "import-failed",
        "cache_not_imported",
        None,
        prune=True,
        expected=False,
        cache=True,
        options=["--cache-from", "type=registry,ref=REGISTRY/pulley:gone"],
    ),
    Case("pulley", "import-not-asked-for", "cache_not_imported", None, prune=True, expected=False, cache=True),
    # beacon: a bare base under all stages, as web frameworks propose it
    Case("beacon", "source", FILES, append("src/main.txt", "x\n"), ("src/main.txt",)),
    Case(
        "beacon",
        "lock-file",
        FILES,
        append("lock.list", "oil=2\n"),
        ("lock.list",),
    ),
    Case("beacon", "asset-of-two-copies", FILES, append("public/logo.txt", "x\n"), ("public/logo.txt",)),
    Case(
        "beacon",
        "env-of-base",
        TEXT,
        replace(DOCKERFILE, "LIGHT=white", "LIGHT=red"),
        ("Dockerfile",),
        causes={"COPY . .": FILES},
    ),
    Case("beacon", "argument", ARG, None, options=["--build-arg", "RELEASE=2"], expected=False),
    Case("beacon", "no-cache", "no_cache_requested", None, options=["--no-cache"], expected=False),
    Case("beacon", "filter", "no_cache_requested", None, options=["--no-cache-filter", "deps"], expected=False),
    Case("beacon", "ignored", None, append("docs/a.txt", "x\n")),
    Case("beacon", "pruned", "cache_lost", None, prune=True, expected=False),
    Case(
        "beacon",
        "after-another-change",
        TEXT,
        replace(DOCKERFILE, "echo user", "echo keeper"),
        ("Dockerfile",),
        causes={"COPY . .": FILES},
        dirty_before=append("src/main.txt", "before\n"),
    ),
]
