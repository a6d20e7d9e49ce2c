#!/usr/bin/env bash
# What the action does: run the build or take its log, and send the log to the server.
#
# The build's exit status is that of the step. A server that is away, or a machine without Python, never fails a build:
# where `cachescope` cannot be installed from the action's own checkout, curl sends the log.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=${RUNNER_TEMP:-${TMPDIR:-/tmp}}/cachescope-$$
mkdir -p "$work"
trap 'rm -rf "$work"' EXIT

warn() { printf '::warning title=Cachescope::%s\n' "$1"; }

options=()
[ -n "${CACHESCOPE_IMAGE:-}" ] && options+=("--image=$CACHESCOPE_IMAGE")
[ -n "${CACHESCOPE_DOCKERFILE:-}" ] && options+=("--dockerfile=$CACHESCOPE_DOCKERFILE")

install() {
  command -v cachescope >/dev/null && return
  local python
  for python in python3.13 python3.12 python3.11 python3; do
    if "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
      "$python" -m venv "$work/venv" &&
        "$work/venv/bin/pip" install --quiet --disable-pip-version-check "$here" &&
        PATH=$work/venv/bin:$PATH &&
        return
    fi
  done
  return 1
}

# Writes a word so that it can stand in an address.
enc() { printf %s "$1" | od -An -v -tx1 | tr -dc 0-9a-f | sed 's/../%&/g'; }

query=
add() { [ -z "$2" ] || query+="&$1=$(enc "$2")"; }

send_by_curl() {
  local pull='' commit=${GITHUB_SHA:-}
  case ${GITHUB_REF:-} in
    refs/pull/*)
      pull=${GITHUB_REF#refs/pull/}
      pull=${pull%%/*}
      commit='' # of a pull request it is a merge that nobody wrote
      ;;
  esac
  query=ci=github-actions
  add repository "${GITHUB_REPOSITORY:-}"
  add commit "$commit"
  add branch "${GITHUB_HEAD_REF:-${GITHUB_REF_NAME:-}}"
  add base_branch "${GITHUB_BASE_REF:-}"
  add pull_request "$pull"
  add job "${GITHUB_JOB:-}"
  add attempt "${GITHUB_RUN_ATTEMPT:-}"
  add runner "${RUNNER_NAME:-}"
  add image "${CACHESCOPE_IMAGE:-}"
  add dockerfile "${CACHESCOPE_DOCKERFILE:-}"
  add outcome "$2"
  add run_url "${GITHUB_RUN_ID:+$GITHUB_SERVER_URL/$GITHUB_REPOSITORY/actions/runs/$GITHUB_RUN_ID}"
  # The token goes by standard input, so that no list of processes shows it.
  printf 'header = "Authorization: Bearer %s"\n' "$CACHESCOPE_TOKEN" |
    curl --config - --silent --show-error --fail --retry 3 --max-time 120 --output /dev/null \
      --data-binary "@$1" "${CACHESCOPE_URL%/}/api/v1/uploads?$query"
}

send() {
  if [ ! -s "$1" ]; then
    warn "There is no build log in $1."
  elif [ "$with_cachescope" = yes ]; then
    cachescope push "$1" "--outcome=$2" ${options[@]+"${options[@]}"} || warn "The build log was not sent."
  else
    send_by_curl "$1" "$2" || warn "The build log was not sent."
  fi
}

with_cachescope=yes
install >"$work/install" 2>&1 || with_cachescope=no

if [ -n "${CACHESCOPE_COMMAND:-}" ]; then
  export BUILDKIT_PROGRESS=${BUILDKIT_PROGRESS:-plain}
  words=(bash -eo pipefail -c "$CACHESCOPE_COMMAND")
  if [[ $CACHESCOPE_COMMAND != *[$'\n;|&<>$`()']* ]]; then
    # A single program is run as such: its arguments say which Dockerfile and which folder it builds.
    eval "words=($CACHESCOPE_COMMAND)"
  fi
  if [ "$with_cachescope" = yes ]; then
    cachescope exec ${options[@]+"${options[@]}"} -- "${words[@]}"
    exit
  fi
  "${words[@]}" 2>&1 | tee "$work/build.log"
  status=${PIPESTATUS[0]}
  send "$work/build.log" "$([ "$status" = 0 ] && echo succeeded || echo failed)"
  exit "$status"
fi

if [ "${CACHESCOPE_HISTORY:-}" = true ]; then
  if docker buildx history logs --progress=rawjson >"$work/history" 2>"$work/problem"; then
    # Where the log goes to depends on the version of buildx.
    [ -s "$work/history" ] || mv "$work/problem" "$work/history"
    send "$work/history" succeeded
  else
    warn "docker buildx history has no log: $(tail -n 1 "$work/problem"). It needs buildx 0.22 or newer."
  fi
  exit 0
fi

if [ -z "${CACHESCOPE_LOG:-}" ]; then
  warn "Nothing was sent: give the action a command, a log, or history: true."
fi
while IFS= read -r log; do
  log=${log#"${log%%[![:space:]]*}"}
  log=${log%"${log##*[![:space:]]}"}
  [ -n "$log" ] && send "$log" ""
done <<<"${CACHESCOPE_LOG:-}"
exit 0
