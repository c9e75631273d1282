#!/usr/bin/env bash
# One night: index what is new, score it, evaluate, look for drift, let old runs go. docs/nightly.md says how to
# start it from cron or on a cluster. The same night again continues, or finds nothing to do.
#
# SOURCE     the images: a folder or s3://bucket/prefix
# STORE      the store: a folder or s3://bucket/prefix
# NIGHT      the night's name; empty: the date of the evening before, noon to noon in UTC
# NAME       the manifest's name; empty: nightly
# BUNDLE     the bundle to score with; empty: latest
# POLICIES   policy files or folders, separated by spaces; empty: no evaluation
# REFERENCE  the name of a frozen reference to compare with for drift; empty: no comparison
# RETENTION  a file such as configs/runs.yaml; empty: no run is deleted
# INDEX, SCORE, EVALUATE, MONITOR   more settings of these jobs, as KEY=VALUE KEY=VALUE
# UNJUDGED   the status of a night with too few images to be evaluated or compared; empty: 0
# TRIES      attempts at what failed and may pass; empty: 3. A wrong setting is not tried again
# PAUSE      seconds between two attempts; empty: 60
# LOCK       a file: a second night at the same time ends with status 75; empty: no lock
# LOGS       a folder: a log a night, the last 30 are kept; empty: to the terminal
# PYTHON     empty: python
#
# Exit status: 0 done, 1 the work failed, 2 something given was wrong, 75 another one is running;
# 3 drift, and all else was done; else that of the step that ended otherwise.
set -euo pipefail
: "${SOURCE:?give SOURCE=, the folder or s3:// prefix with the images}"
: "${STORE:?give STORE=, the folder or s3:// prefix of the store}"
NIGHT=${NIGHT:-$(date --utc --date='12 hours ago' +%Y-%m-%d)}
NAME=${NAME:-nightly}
BUNDLE=${BUNDLE:-latest}
PYTHON=${PYTHON:-python}
TRIES=${TRIES:-3}
PAUSE=${PAUSE:-60}
RUN=night-$NIGHT
UNJUDGED=${UNJUDGED:-0}
KEPT_LOGS=30
read -ra INDEX <<<"${INDEX:-}"
read -ra SCORE <<<"${SCORE:-}"
read -ra EVALUATE <<<"${EVALUATE:-}"
read -ra MONITOR <<<"${MONITOR:-}"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [[ -n ${LOCK:-} ]]; then
    exec 9>>"$LOCK"
    # The lock goes with the last process that holds it: also with a night that is killed.
    flock --nonblock 9 || { echo "error: LOCK: $LOCK: another night is running" >&2; exit 75; }
fi
if [[ -n ${LOGS:-} ]]; then
    mkdir -p "$LOGS"
    exec >>"$LOGS/$RUN.log" 2>&1
    find "$LOGS" -maxdepth 1 -name 'night-*.log' | sort --reverse | tail -n +$((KEPT_LOGS + 1)) |
        xargs --no-run-if-empty --delimiter='\n' rm --
fi

say() { echo "$(date --utc +%Y-%m-%dT%H:%M:%SZ) $*"; }

# step NAME JOB SETTINGS...: what failed (status 1, or a kill) is tried again, the same command.
step() {
    local name=$1 try status
    shift
    for ((try = 1; ; try++)); do
        say "$name: attempt $try of $TRIES"
        status=0
        "$PYTHON" "jobs/$1.py" "${@:2}" 9>&- || status=$?
        ((status == 0)) && return 0
        say "$name: ended with status $status"
        ((status == 1 || status > 128)) && ((try < TRIES)) || return "$status"
        sleep "$PAUSE"
    done
}

# What came of the steps after the scores. A failure stays, whatever comes later: who reads 3 takes
# everything else for done.
failed=0 drift=0 unjudged=0
fail() { ((failed)) || failed=$1; }

# judge NAME JOB SETTINGS...: status 3, drift, is an answer and not tried again; so is 4, too few
# images for an answer, which fails no night.
judge() {
    local ended=0
    step "$@" || ended=$?
    case $ended in
        0) ;;
        3) drift=3 ;;
        4)
            say "$1: NO VERDICT on this night: too few images; what is missing stands above"
            unjudged=$UNJUDGED
            ;;
        *) fail "$ended" ;;
    esac
}

say "run $RUN: $SOURCE into $STORE"
# A night that has begun keeps its images: what has come meanwhile belongs to the next one.
begun=0
step show runs show "$RUN" "store=$STORE" >/dev/null 2>&1 || begun=$?
if ((begun == 0)); then
    say "run $RUN has begun before: its manifest stays"
elif ((begun != 2)); then
    say "whether run $RUN has begun can't be told (status $begun)"
    exit "$begun"
else
    step index index "source=$SOURCE" "store=$STORE" "name=$NAME" "since=$NAME" "${INDEX[@]}"
fi
step score score "manifest=$STORE/manifests/$NAME.parquet" "store=$STORE" "bundle=$BUNDLE" \
    "run_id=$RUN" skip_scored=true "${SCORE[@]}"

# The scores are there: what follows may fail without keeping the rest from being done.
if [[ -n ${POLICIES:-} ]]; then
    read -ra policies <<<"$POLICIES"
    printf -v listed ',%s' "${policies[@]}"
    judge evaluate evaluate "store=$STORE" "run_id=$RUN" "bundle=$BUNDLE" "name=$RUN" \
        "policies=[${listed:1}]" "${EVALUATE[@]}"
fi
if [[ -n ${REFERENCE:-} ]]; then
    judge monitor monitor "store=$STORE" "run_id=$RUN" "frozen=$REFERENCE" "name=drift-$RUN" \
        "${MONITOR[@]}"
fi
if [[ -n ${RETENTION:-} ]]; then
    step prune runs prune --config "$RETENTION" "store=$STORE" --yes || fail $?
fi
status=$failed
((status)) || status=$drift
((status)) || status=$unjudged
say "run $RUN: ended with status $status"
exit "$status"
