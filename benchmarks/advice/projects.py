"""The projects of the benchmark: small repositories with a history of commits, one habit of real ones each."""

import json
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Project:
    """A repository: its commits, how it is built, and what a recommendation may change in its image."""

    name: str
    commits: list[dict[str, str]]
    """Per commit the files that it writes."""
    arguments: list[str] = field(default_factory=list)
    """Of the build's command line; COMMIT stands for the commit."""
    changes: str | None = None
    """A pattern of paths in which the image may differ, because the recommendation means to change them."""


def python_web() -> Project:
    """The whole context is copied before pip installs."""
    first = {
        "Dockerfile": "FROM BASE\nWORKDIR /app\nCOPY . .\nRUN pip install -q -r requirements.txt\n"
        'RUN python3 -m compileall -q app\nCMD ["python3", "-m", "app"]\n',
        "requirements.txt": "click==8.1.7\njinja2==3.1.4\nrequests==2.32.3\n",
        "app/__init__.py": "",
        "app/__main__.py": "print('hello')\n",
        "README.md": "# Web\n",
    }
    commits = [first]
    commits += [{"app/__main__.py": f"print('hello {n}')\n"} for n in range(4)]
    commits += [{"requirements.txt": "click==8.1.7\njinja2==3.1.4\nrequests==2.32.3\nattrs==23.2.0\n"}]
    commits += [{"app/views.py": f"VERSION = {n}\n"} for n in range(3)]
    return Project("python-web", commits)


def node_service() -> Project:
    """The whole context is copied before npm installs, and the same RUN line builds."""
    package = {
        "name": "service",
        "version": "1.0.0",
        "private": True,
        "dependencies": {"lodash": "4.17.21", "dayjs": "1.11.11"},
    }
    later = {**package, "dependencies": {**package["dependencies"], "nanoid": "5.0.7"}}
    first = {
        "Dockerfile": "FROM BASE\nWORKDIR /srv\nCOPY . .\nRUN npm install --no-audit --no-fund\n"
        'RUN node build.js\nCMD ["node", "out.js"]\n',
        "package.json": json.dumps(package),
        "build.js": "require('fs').writeFileSync('out.js', 'console.log(1)');"
        " const t = Date.now(); while (Date.now() - t < 700);\n",
        "src/a.js": "module.exports = 1;\n",
        ".dockerignore": "node_modules\n.git\n",
    }
    commits = [first]
    commits += [{"src/a.js": f"module.exports = {n};\n"} for n in range(5)]
    commits += [{"package.json": json.dumps(later)}]
    commits += [{"src/b.js": f"module.exports = {n};\n"} for n in range(3)]
    return Project("node-service", commits)


def c_tool() -> Project:
    """The commit's id is an ARG at the top, needed by the last line only."""
    first = {
        "Dockerfile": "FROM BASE\nWORKDIR /src\nARG REVISION\nRUN gcc --version > toolchain.txt && sleep 1.2\n"
        "COPY lib lib\n"
        'RUN make -s -C lib\nCOPY main.c .\nRUN gcc -o tool main.c lib/lib.o && echo "$REVISION" > revision.txt\n'
        'CMD ["./tool"]\n',
        "lib/Makefile": "lib.o: lib.c\n\tsleep 1.5\n\tgcc -O2 -c lib.c\n",
        "lib/lib.c": "int answer(void) { return 42; }\n",
        "main.c": "int answer(void);\nint main(void) { return answer() - 42; }\n",
        ".dockerignore": ".git\n",
    }
    commits = [first]
    commits += [{"main.c": f"int answer(void);\nint main(void) {{ return answer() - {n}; }}\n"} for n in range(5)]
    commits += [{"lib/lib.c": "int answer(void) { return 43; }\n"}]
    commits += [{"main.c": f"int answer(void);\nint main(void) {{ return answer() - 1{n}; }}\n"} for n in range(2)]
    return Project("c-tool", commits, ["--build-arg", "REVISION=COMMIT"])


def python_worker() -> Project:
    """Sources are copied one line above the requirements."""
    first = {
        "Dockerfile": "FROM BASE\nWORKDIR /job\nCOPY src src\nCOPY requirements.txt .\n"
        "RUN pip install -q -r requirements.txt\n"
        'RUN python3 -m compileall -q src && sleep 0.5\nCMD ["python3", "src/job.py"]\n',
        "requirements.txt": "pyyaml==6.0.2\ncolorama==0.4.6\n",
        "src/job.py": "print('job')\n",
        ".dockerignore": ".git\n",
    }
    commits = [first]
    commits += [{"src/job.py": f"print('job {n}')\n"} for n in range(6)]
    commits += [{"requirements.txt": "pyyaml==6.0.2\ncolorama==0.4.6\nidna==3.7\n"}]
    return Project("python-worker", commits)


def static_site() -> Project:
    """Documentation for developers lies beside the pages, and all is copied."""
    first = {
        "Dockerfile": "FROM BASE\nWORKDIR /site\nCOPY . .\nRUN sh render.sh && sleep 1\nRUN sh check.sh && sleep 0.8\n"
        'CMD ["python3", "-m", "http.server"]\n',
        "render.sh": "mkdir -p out; for f in pages/*.txt; do cp $f out/; done\n",
        "check.sh": "test -d out\n",
        "pages/index.txt": "index\n",
        "CONTRIBUTING.md": "how to\n",
        ".github/workflows/ci.yml": "on: push\n",
        ".dockerignore": ".git\n",
    }
    commits = [first]
    for n in range(4):
        commits += [{"pages/index.txt": f"index {n}\n"}, {"CONTRIBUTING.md": f"how to {n}\n"}]
    commits += [{".github/workflows/ci.yml": "on: [push, pull_request]\n"}]
    return Project("static-site", commits, changes=r"/\.github(?:/|$)|/CONTRIBUTING\.md$")


def node_site() -> Project:
    """Two stages; the first copies everything before npm installs."""
    package = {
        "name": "site",
        "version": "1.0.0",
        "private": True,
        "dependencies": {"marked": "12.0.2", "slugify": "1.6.6"},
    }
    first = {
        "Dockerfile": "FROM BASE AS build\nWORKDIR /web\nCOPY . .\n"
        "RUN npm install --no-audit --no-fund && node build.js\n"
        "FROM BASE\nWORKDIR /www\nCOPY --from=build /web/dist dist\nRUN ls dist && sleep 0.6\n",
        "package.json": json.dumps(package),
        "build.js": "const fs = require('fs'); fs.mkdirSync('dist', {recursive: true});"
        " fs.writeFileSync('dist/page.html', require('marked').marked(fs.readFileSync('page.md', 'utf8')));\n",
        "page.md": "# Page\n",
        "notes/todo.txt": "todo\n",
        ".dockerignore": "node_modules\n.git\n",
    }
    commits = [first]
    for n in range(4):
        commits += [{"page.md": f"# Page {n}\n"}, {"notes/todo.txt": f"todo {n}\n"}]
    return Project("node-site", commits)


def go_service() -> Project:
    """The version is an ARG above the line that compiles the standard library, and a LABEL takes it there too."""
    first = {
        "Dockerfile": "FROM BASE\nARG VERSION\nLABEL org.opencontainers.image.version=$VERSION\nWORKDIR /src\n"
        "ENV GOCACHE=/var/cache/go GOFLAGS=-trimpath\nRUN go build net/http\nCOPY go.mod main.go ./\n"
        'RUN go build -o /usr/local/bin/service .\nCMD ["service"]\n',
        "go.mod": "module example.org/service\n\ngo 1.19\n",
        "main.go": 'package main\n\nimport "net/http"\n\nfunc main() { http.ListenAndServe(":80", nil) }\n',
        ".dockerignore": ".git\n",
    }
    main = 'package main\n\nimport "net/http"\n\n// {}\nfunc main() {{ http.ListenAndServe(":80{}", nil) }}\n'
    commits = [first, *({"main.go": main.format(n, n)} for n in range(6))]
    return Project("go-service", commits, ["--build-arg", "VERSION=COMMIT"])


def debian_agent() -> Project:
    """Packages of the distribution are installed below the files, and the same line goes on with them."""
    first = {
        "Dockerfile": "FROM BASE\nWORKDIR /agent\nCOPY . .\nRUN apt-get update && apt-get install -y -qq jq pv && "
        'rm -rf /var/lib/apt/lists/* && sh render.sh\nCMD ["cat", "all.json"]\n',
        "render.sh": "jq -s . readings/*.json > all.json\n",
        "readings/0.json": '{"n": 0}\n',
        ".dockerignore": ".git\n",
    }
    commits = [first, *({f"readings/{n}.json": f'{{"n": {n}}}\n'} for n in range(1, 6))]
    return Project("debian-agent", commits)


def monorepo() -> Project:
    """Two programs in one repository; the Dockerfile of one copies both."""
    package = {"name": "api", "version": "1.0.0", "private": True}
    first = {
        "Dockerfile": "FROM BASE\nWORKDIR /srv\nCOPY . .\nRUN node api/build.js\nRUN node -e "
        '"require(\'./api/out.js\')" && sleep 0.6\nCMD ["node", "api/out.js"]\n',
        "api/package.json": json.dumps(package),
        "api/build.js": "require('fs').writeFileSync('api/out.js', 'console.log(1)');"
        " const t = Date.now(); while (Date.now() - t < 1200);\n",
        "web/Dockerfile": "FROM BASE\n",
        "web/index.html": "<p>0</p>\n",
        "deploy/release.yaml": "replicas: 1\n",
        "README.md": "# Both\n",
        ".dockerignore": ".git\n",
    }
    commits = [first]
    for n in range(3):
        commits += [{"web/index.html": f"<p>1{n}</p>\n"}, {"api/lib.js": f"module.exports = {n};\n"}]
        commits += [{"deploy/release.yaml": f"replicas: 2{n}\n"}]
    return Project("monorepo", commits, changes=r"^srv/(?:web|deploy)(?:/|$)")


PROJECTS = [
    *(python_web(), node_service(), c_tool(), python_worker(), static_site(), node_site()),
    *(go_service(), debian_agent(), monorepo()),
]
