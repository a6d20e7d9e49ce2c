"""How each CI system is connected: what to open, what to paste, what to tick; between backticks stands code."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Guide:
    """The steps in one CI system, in its own words."""

    label: str
    steps: tuple[str, ...]
    read_help: str = ""
    """What the token for reading must be allowed; empty where nothing is read."""
    write_help: str = ""
    """What the token for writing must be allowed; empty where nothing is written."""
    server: str = ""
    """What the address of the server looks like; empty where there is only the vendor's."""
    server_needed: bool = False


def _paragraphs(text: str) -> tuple[str, ...]:
    """The paragraphs of a text, each on one line."""
    return tuple(" ".join(part.split()) for part in text.strip().split("\n\n"))


def _line(text: str) -> str:
    return " ".join(text.split())


GUIDES: Final[dict[str, Guide]] = {
    "github": Guide(
        label="GitHub",
        steps=_paragraphs("""
            Open the repository, or the organization for all of them: Settings, Webhooks, Add
            webhook.

            Payload URL: the address above. Content type: `application/json`. Secret: the secret
            above. Leave SSL verification on.

            Which events: “Let me select individual events”. Tick `Workflow jobs`, `Workflow runs`
            and `Pull requests`, and `Packages` to link pushed images; take the tick off `Pushes`.
            Leave “Active” ticked and press Add webhook.

            GitHub sends a ping at once: it appears below. Then give the token below, and run a
            workflow.
        """),
        read_help=_line("""
            A fine-grained personal access token (Settings, Developer settings) for these
            repositories with the repository permissions `Actions: Read-only`, `Contents: Read-only`
            and `Pull requests: Read-only`. Or a GitHub App: its id and private key; permissions
            `Actions` and `Contents` read-only, `Checks` and `Pull requests` read and write; events
            Workflow job, Workflow run, Pull request; its webhook is the address above.
        """),
        write_help=_line("""
            Another fine-grained token with `Pull requests: Read and write`, `Commit statuses: Read
            and write` and `Contents: Read-only`; or the same GitHub App, which posts check runs.
        """),
        server="https://github.example.org for GitHub Enterprise Server; empty for github.com",
    ),
    "gitlab": Guide(
        label="GitLab",
        steps=_paragraphs("""
            Open the project or the group: Settings, Webhooks, Add new webhook.

            URL: the address above. With the scheme `signing-token` (GitLab 19 and newer) paste the
            secret as signing token; with `token` paste it as secret token.

            Trigger: tick `Job events`, `Pipeline events` and `Merge request events`, nothing else.
            Leave SSL verification on and set no custom webhook template. Press Add webhook.

            Test, Job events: it appears below. Then give the token below, and run a pipeline.
        """),
        read_help=_line("""
            A project or group access token with the role Reporter and the scope `read_api`.
        """),
        write_help=_line("""
            Another one with the role Developer and the scope `api`.
        """),
        server="https://gitlab.example.org; empty for gitlab.com",
    ),
    "gitea": Guide(
        label="Gitea",
        steps=_paragraphs("""
            Open the repository, or the organization: Settings, Webhooks, Add webhook, Gitea.

            Target URL: the address above. HTTP method: POST. Content type: `application/json`.
            Secret: the secret above.

            Trigger on: Custom events. Tick `Workflow Jobs`, `Workflow Runs` and `Pull Request`.
            Press Add webhook.

            Test delivery: it appears below. Then give the token below, and run a workflow (Gitea
            1.25 or newer).
        """),
        read_help=_line("""
            An access token (Settings, Applications) with the permission `repository: Read`.
        """),
        write_help=_line("""
            Another one with `repository: Read and write` and `issue: Read and write`.
        """),
        server="https://gitea.example.org",
        server_needed=True,
    ),
    "forgejo": Guide(
        label="Forgejo",
        steps=_paragraphs("""
            Open the repository: Settings, Webhooks, Add webhook, Forgejo. Target URL: the address
            above. Content type: `application/json`. Secret: the secret above.

            Trigger on: Custom events. Tick the Action run events and `Pull request`.

            Then give the token below, and run a workflow (Forgejo 16 or newer). An older Forgejo
            hands out no logs: send them from the job with `cachescope push`.
        """),
        read_help=_line("""
            An access token with the permission `repository: Read`.
        """),
        write_help=_line("""
            Another one with `repository: Read and write` and `issue: Read and write`.
        """),
        server="https://forgejo.example.org",
        server_needed=True,
    ),
    "buildbot": Guide(
        label="Buildbot",
        steps=_paragraphs("""
            Add to `c['services']` in master.cfg: `reporters.HttpStatusPush("<address>",
            headers={"Authorization": "Bearer <secret>"},
            generators=[reporters.BuildStatusGenerator(mode="all",
            message_formatter=reporters.MessageFormatterFunction(lambda context: context["build"],
            "json"))])`

            Keep `mode="all"`: without it canceled builds are not told. Run `buildbot reconfig`.

            Run a build: it appears below, and its log is fetched over Buildbot's API.
        """),
        read_help=_line("""
            Nothing, unless a proxy in front of Buildbot asks for a user and a password.
        """),
        server="https://buildbot.example.org",
        server_needed=True,
    ),
    "buildkite": Guide(
        label="Buildkite",
        steps=_paragraphs("""
            Organization settings, Notification services, Add, Webhook. URL: the address above.

            Token: Buildkite shows one of its own: copy it into “a secret of the CI system” below.
            Choose to send it as `X-Buildkite-Signature`.

            Events: `job.finished`. All pipelines, or those that build images. Add, then run a
            build.
        """),
        read_help=_line("""
            An API access token with the scope `read_build_logs`.
        """),
    ),
    "circleci": Guide(
        label="CircleCI",
        steps=_paragraphs("""
            Project settings, Webhooks, Add webhook. Receiver URL: the address above. Secret token:
            the secret above.

            Events: `Job Completed`. Leave certificate verification on. Press “Test ping event”,
            then run a pipeline.
        """),
        read_help=_line("""
            A personal API token (User settings); project tokens cannot read all outputs.
        """),
    ),
    "jenkins": Guide(
        label="Jenkins",
        steps=_paragraphs("""
            Install the Notification plugin. In the job: Job Notifications, Add endpoint. Format
            JSON, protocol HTTP.

            URL: the address above with `cachescope:<secret>@` after `https://`; the plugin makes a
            header of it.

            Event: `Job Finalized`. Log: 0 lines, as the log is fetched. Save, then run the job.
        """),
        read_help=_line("""
            A user that may read the job, and an API token of that user.
        """),
        server="https://jenkins.example.org, with its prefix if it has one",
        server_needed=True,
    ),
    "azure": Guide(
        label="Azure DevOps",
        steps=_paragraphs("""
            Project settings, Service hooks, Create subscription, Web Hooks. Trigger: `Build
            completed`.

            URL: the address above. HTTP headers: `Authorization: Bearer ` and the secret above.
            Resource details to send: All. Press Test, then Finish.

            For forecasts on pull requests of Azure Repos, two more in the same way: `Pull request
            created` and `Pull request updated`.
        """),
        read_help=_line("""
            A personal access token with the scope `Build: Read`.
        """),
        write_help=_line("""
            Another one with `Code: Read` and `Code: Status`, and `Pull Request Threads: Read and
            write`, for repositories of Azure Repos; those of GitHub are told by a source of GitHub.
        """),
        server="https://dev.azure.com/<organization>",
        server_needed=True,
    ),
    "bitbucket": Guide(
        label="Bitbucket",
        steps=_paragraphs("""
            Repository settings, Webhooks, Add webhook. URL: the address above. Secret: the secret
            above.

            Triggers: choose from a full list: `Build status created` and `Build status updated`;
            for forecasts, `Pull request created` and `Pull request updated` too. Save, run a
            pipeline.
        """),
        read_help=_line("""
            A repository access token with `Pipelines: Read` as token; or a user name and an API
            token.
        """),
        write_help=_line("""
            Another one with `Repositories: Write` and `Pull requests: Write`; of a user's API token
            `read:user:bitbucket` too, so that comments are found again.
        """),
    ),
    "registry": Guide(
        label="Registry (distribution)",
        steps=_paragraphs("""
            In the registry's config.yml, under `notifications.endpoints`: a name, `url` with the
            address above, `headers: {Authorization: [Bearer <secret>]}`, `timeout: 5s`.

            Restart the registry and push an image: a push is linked to the build that made it, by
            its digest.
        """),
    ),
    "harbor": Guide(
        label="Harbor",
        steps=_paragraphs("""
            Project, Webhooks, New webhook. Notify type: http. Event type: `Artifact pushed`.
            Endpoint URL: the address above. Auth header: `Bearer ` and the secret above.

            Push an image: it is linked to the build that made it, by its digest.
        """),
    ),
    "docker_hub": Guide(
        label="Docker Hub",
        steps=_paragraphs("""
            Docker Hub signs nothing and sends no header: a proxy in front of this server must add
            `Authorization: Bearer ` and the secret above.

            Repository, Webhooks: paste the address of that proxy.
        """),
    ),
    "generic": Guide(
        label="Any other",
        steps=_paragraphs("""
            Send a Standard Webhook with the type `build.log`; it carries the log itself. Any
            library of standardwebhooks.com signs it with the secret above.

            Or send the log without a webhook: `cachescope push` in the job needs an upload token
            only.
        """),
    ),
}
"""By the name of the provider."""


def find_guide(provider: str) -> Guide:
    """The guide of a CI system; one that has none of its own gets what goes for all."""
    return GUIDES.get(provider) or Guide(
        label=provider.replace("_", " ").capitalize(),
        steps=("Set up a webhook that sends JSON to the address above and signs it with the secret above.",),
        server="https://ci.example.org",
    )


def in_order(providers: list[str]) -> list[str]:
    """CI systems as they are offered: the order of the guides above, then the rest by name."""
    places = {name: place for place, name in enumerate(GUIDES)}
    return sorted(providers, key=lambda name: (places.get(name, len(places)), name))
