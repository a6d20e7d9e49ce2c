"""Channels and rules of a team: where it is told, of what, and what a rule would have sent over the last 30 days."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from cachescope import wording
from cachescope.errors import CachescopeError, InvalidValueError
from cachescope.regressions import REGRESSIONS
from dashboards import theme
from dashboards.context import FormDep, Page, PageDep
from dashboards.pages.alert import MESSAGE_STATES
from dashboards.rendering import query
from service.actions import channels, incidents
from service.actions.channels import RuleForm
from service.dependencies import TeamDep
from store.models import AlertRule, Team
from store.queries import repositories

router = APIRouter(prefix="/teams/{slug}/channels", include_in_schema=False)

DONE = {
    "made": "The channel is there, with a rule for everything that costs five minutes a day. Send it a test.",
    "test": "The test is on its way; its fate stands below under “Messages”.",
    "off": "The channel is off: it is told nothing.",
    "on": "The channel is on.",
    "deleted": "Deleted.",
    "rule": "The rule is saved.",
    "again": "The message is sent once more.",
}
LOSSES = ((0, "anything"), (60, "1 min"), (300, "5 min"), (1800, "30 min"), (3600, "1 h"), (14400, "4 h"))
DIGESTS = {"none": "no digest", "daily": "every day", "weekly": "every Monday"}


@router.get("", response_class=HTMLResponse)
def show_channels(
    page: PageDep, team: TeamDep, kind: str = Query("", max_length=40), done: str = Query("", max_length=20)
) -> Response:
    """Show channels, rules and messages; with a rule in the address also what it would have sent."""
    asked = dict(page.request.query_params)
    if not asked.get("preview"):
        return _show(page, team, kind=kind, done=DONE.get(done, ""))
    try:
        form = _rule_form(asked)
        found = channels.preview_rule(page.session, page.viewer, team, form)
    except CachescopeError as error:
        return _show(page, team, kind=kind, message=str(error), status=422, asked=asked)
    return _show(page, team, kind=kind, found=found, asked=asked)


@router.post("")
def create_channel(form: FormDep, page: PageDep, team: TeamDep) -> Response:
    """Add a channel."""
    kind = form.get("kind", "")
    config = {name.removeprefix("config-"): text for name, text in form.items() if name.startswith("config-")}
    try:
        channels.create_channel(page.session, page.viewer, team, name=form.get("name", ""), kind=kind, config=config)
    except InvalidValueError as error:
        return _show(page, team, kind=kind, message=str(error), status=422)
    return _done(team, "made")


@router.post("/rules")
def save_rule(form: FormDep, page: PageDep, team: TeamDep) -> Response:
    """Add a rule, or change one."""
    number = form.get("rule", "")
    rule_id = int(number) if number.isascii() and number.isdigit() and len(number) < 19 else None
    try:
        channels.save_rule(page.session, page.viewer, team, _rule_form(form), rule_id)
    except InvalidValueError as error:
        return _show(page, team, message=str(error), status=422, asked=form)
    return _done(team, "rule")


@router.post("/rules/{rule_id}/delete")
def delete_rule(form: FormDep, page: PageDep, team: TeamDep, rule_id: int) -> Response:
    """Take a rule away."""
    channels.delete_rule(page.session, page.viewer, team, rule_id)
    return _done(team, "deleted")


@router.post("/messages/{message_id}/retry")
def retry(form: FormDep, page: PageDep, team: TeamDep, message_id: str) -> Response:
    """Send a message that failed once more."""
    channels.retry_message(page.session, page.viewer, team, message_id)
    return _done(team, "again")


@router.post("/{channel_id}/{action}")
def change_channel(form: FormDep, page: PageDep, team: TeamDep, channel_id: str, action: str) -> Response:
    """Send a test, switch a channel off or on, or delete it."""
    match action:
        case "test":
            channels.send_test(page.session, page.viewer, team, channel_id)
        case "off" | "on":
            channels.switch_channel(page.session, page.viewer, team, channel_id, is_on=action == "on")
        case "delete":
            channels.delete_channel(page.session, page.viewer, team, channel_id)
        case _:
            raise InvalidValueError("action", f'"{action[:40]}" is nothing that can be done with a channel.')
    return _done(team, "deleted" if action == "delete" else action)


def _rule_form(form: Mapping[str, str]) -> RuleForm:
    repository = form.get("repository_id", "")
    loss = form.get("min_seconds_per_day", "300")
    if repository and not (repository.isascii() and repository.isdigit() and len(repository) < 19):
        raise InvalidValueError("repository_id", f'"{repository[:40]}" is no number of a repository.')
    if not (loss.isascii() and loss.isdigit() and len(loss) < 8):
        raise InvalidValueError("min_seconds_per_day", f'"{loss[:40]}" is no number of seconds.')
    return RuleForm(
        channel_id=form.get("channel_id", ""),
        repository_id=int(repository) if repository else None,
        min_seconds_per_day=float(loss),
        kinds=tuple(name.removeprefix("kind-") for name in form if name.startswith("kind-")),
        only_default_branch=form.get("branches") == "default",
        quiet_from=form.get("quiet_from", "").strip(),
        quiet_to=form.get("quiet_to", "").strip(),
        digest=form.get("digest", "none"),
        tells_incidents=form.get("tells") != "digest",
        reminds=form.get("reminds", "yes") != "no",
    )


def _show(
    page: Page,
    team: Team,
    *,
    kind: str = "",
    done: str = "",
    message: str = "",
    status: int = 200,
    found: Any = None,
    asked: Mapping[str, str] | None = None,
) -> HTMLResponse:
    made = channels.list_channels(page.session, page.viewer, team)
    rules = channels.list_rules(page.session, page.viewer, team)
    kinds = channels.list_kinds()
    known = repositories.list_repositories(page.session, team.id)
    names = {repository.id: repository.name for repository in known}
    chosen = kind if kind in kinds else "slack"
    return page.show(
        "channels.html",
        team,
        status=status,
        crumbs=[("Alerts", f"/teams/{team.slug}/alerts"), ("Channels and rules", None)],
        section="alerts",
        json_url=f"/api/v1/teams/{team.slug}/channels",
        sentence=_sentence(made, rules),
        done=done,
        message=message,
        may_change=page.viewer.may(team.id, "owner"),
        channels=[
            {
                "id": channel.id,
                "name": channel.name,
                "kind": kinds.get(channel.kind, channel.kind),
                "config": channels.shown_config(channel),
                "is_on": channel.disabled_at is None,
            }
            for channel in made
        ],
        kinds=sorted(kinds.items(), key=lambda item: item[1]),
        kind=chosen,
        fields=channels.fields_of(chosen),
        rules=[(rule.id, rule.channel.name, in_words(rule, names), _address(rule)) for rule in rules],
        repositories=known,
        losses=LOSSES,
        digests=DIGESTS,
        regressions=[(name, wording.kind_in_words(name)) for name in REGRESSIONS],
        asked=asked or {},
        preview=None
        if found is None
        else [
            {
                "at": each.at,
                "kind": each.kind,
                "title": _title(page, each),
                "url": f"/alerts/{each.incident.id}",
                "price": each.incident.seconds_per_day,
            }
            for each in found
        ],
        messages=[
            {
                "id": each.id,
                "at": each.sent_at or each.created_at,
                "kind": each.kind,
                "channel": each.channel.name,
                "title": each.notice.get("title", ""),
                "state": MESSAGE_STATES[each.state],
                "attempts": each.attempts,
                "answer": each.answer or "",
                "next_at": each.next_at if each.state == "new" else None,
                "may_retry": each.state == "failed",
            }
            for each in channels.list_messages(page.session, page.viewer, team)
        ],
    )


def _title(page: Page, message: Any) -> str:
    words = incidents.in_words(page.session, message.incident)
    return words.headline if message.kind == "opened" else words.title


def _sentence(made: Any, rules: Any) -> str:
    if not made:
        return "Nobody is told yet: add a channel, and every alert that costs five minutes a day is told there."
    return (
        f"The team is told in {theme.plural(len(made), 'channel')} by {theme.plural(len(rules), 'rule')}: one message "
        "when something gets worse, one when it is over, one reminder at most."
    )


def in_words(rule: AlertRule, names: Mapping[int, str]) -> str:
    """What a rule says, as a sentence."""
    parts = []
    if rule.tells_incidents:
        kinds = ", ".join(wording.kind_in_words(kind) for kind in rule.kinds) or "every kind"
        loss = f" from {theme.duration(rule.min_seconds_per_day)} a day" if rule.min_seconds_per_day else ""
        where = theme.cut_middle(names.get(rule.repository_id, "one repository"), 60) if rule.repository_id else "all"
        parts.append(f"{kinds}{loss}, in {where if rule.repository_id else 'all repositories'}")
        if rule.only_default_branch:
            parts.append("on the default branch")
        parts.append("with a reminder" if rule.reminds else "without a reminder")
    if rule.digest != "none":
        parts.append(f"a digest {DIGESTS[rule.digest]}")
    if rule.quiet_from is not None and rule.quiet_to is not None:
        parts.append(f"quiet from {_time(rule.quiet_from)} to {_time(rule.quiet_to)}")
    return "; ".join(parts) or "nothing"


def _address(rule: AlertRule) -> str:
    """The rule as it stands in the address of its preview."""
    return query(
        {
            "preview": 1,
            "rule": rule.id,
            "channel_id": rule.channel_id,
            "repository_id": rule.repository_id,
            "min_seconds_per_day": round(rule.min_seconds_per_day),
            **{f"kind-{kind}": 1 for kind in rule.kinds},
            "branches": "default" if rule.only_default_branch else None,
            "quiet_from": _time(rule.quiet_from),
            "quiet_to": _time(rule.quiet_to),
            "digest": rule.digest,
            "tells": None if rule.tells_incidents else "digest",
            "reminds": None if rule.reminds else "no",
        }
    )


def _time(minute: int | None) -> str:
    return "" if minute is None else f"{minute // 60:02d}:{minute % 60:02d}"


def _done(team: Team, what: str) -> Response:
    return RedirectResponse(f"/teams/{team.slug}/channels{query({'done': what})}", 303)
