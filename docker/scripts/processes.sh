# shellcheck shell=bash
# Sourced by up.sh and down.sh: daemons in the background, each recorded by its process id and start time. Only a
# process that still has both is taken for ours: an id alone may belong to somebody else by now.

started_at() { # PID: when it started, in clock ticks since boot; nothing where there is no such process
    local stat fields
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
    read -r -a fields <<<"${stat##*) }" # the name before it may hold spaces
    [ "${fields[0]}" = Z ] || echo "${fields[19]}"
}

is_running() { # NAME
    local pid started
    [ -r "$BOX_RUN/processes/$1" ] || return 1
    read -r pid started <"$BOX_RUN/processes/$1"
    [ -n "$started" ] && [ "$(started_at "$pid")" = "$started" ]
}

start() { # NAME SCRIPT [ARGUMENT...]: unless it runs already
    local name=$1 pid
    shift
    if is_running "$name"; then return; fi
    mkdir -p "$BOX_RUN/processes" "$BOX_LOG"
    # The lock that up.sh holds (descriptor 9) must not live on in a daemon.
    setsid nohup "$@" >>"$BOX_LOG/$name.out" 2>&1 </dev/null 9>&- &
    pid=$!
    echo "$pid $(started_at $pid)" >"$BOX_RUN/processes/$name"
}

await() { # NAME SECONDS WHAT COMMAND...: until the command succeeds; the end of the daemon or of the time is a failure
    local name=$1 until=$((SECONDS + $2)) what=$3 why=""
    shift 3
    until "$@" >/dev/null 2>&1; do
        is_running "$name" || why="$name ended"
        [ $SECONDS -lt $until ] || why="$name runs, but in time there was no $what"
        [ -z "$why" ] || fail "$why. The end of what it said:" "$(last_words "$name")"
        sleep 0.1
    done
}

last_words() { # NAME
    local log
    for log in "$BOX_LOG/$1.out" "$BOX_LOG/$1.log"; do
        if [ -s "$log" ]; then
            echo "$log:"
            tail -n 12 "$log"
        fi
    done
}

stop() { # NAME: ask, then kill after 15 s
    local pid started
    if is_running "$1"; then
        read -r pid started <"$BOX_RUN/processes/$1"
        kill -TERM "$pid" 2>/dev/null || true
        for _ in $(seq 150); do
            is_running "$1" || break
            sleep 0.1
        done
        if is_running "$1"; then kill -KILL "$pid" 2>/dev/null || true; fi
    fi
    rm -f "$BOX_RUN/processes/$1"
}

recorded() { # the names of all daemons that were started
    [ ! -d "$BOX_RUN/processes" ] || ls "$BOX_RUN/processes"
}
