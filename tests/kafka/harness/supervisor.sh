# Starts and ends one broker for the test process at the other end of standard input, and cleans up when that
# end closes, however the test process went: by its end, a panic, Ctrl-C or SIGKILL.
#
# $1: the broker's folder, removed at the end. $2: java or docker. The rest: the command that runs the broker
# in the foreground; for docker, the container's name comes first.
folder=$1 kind=$2
shift 2
if [ "$kind" = docker ]; then container=$1; shift; fi
cd "$folder" || exit 1
# Ctrl-C and a closed terminal reach the test process, which closes the pipe.
trap : INT HUP TERM

launch() {
    rm -f exited pid
    # The inner shell becomes the broker, so that its pid is known while an outer one waits for its end.
    ( sh -c 'echo $$ >pid.new; mv pid.new pid; exec "$@"' broker "$@" </dev/null >>broker.log 2>&1; echo $? >exited ) &
    waiter=$!
    until [ -s pid ] || [ -e exited ]; do sleep 0.05; done
}

# $1: TERM or KILL. A broker that has not ended 30 s after TERM is killed.
end() {
    [ -n "$waiter" ] || return 0
    if [ "$kind" = docker ]; then
        if [ "$1" = TERM ]; then docker stop --time 30 "$container"; else docker kill "$container"; fi >>broker.log 2>&1
    elif [ ! -e exited ]; then
        broker=$(cat pid)
        kill -s "$1" "$broker"
        tries=0
        until [ -e exited ] || [ $tries -ge 300 ]; do tries=$((tries + 1)); sleep 0.1; done
        [ -e exited ] || kill -s KILL "$broker"
    fi
    wait "$waiter"
    waiter=
}

# $1: pause or resume.
hold() {
    if [ "$kind" = docker ]; then
        if [ "$1" = pause ]; then docker pause "$container"; else docker unpause "$container"; fi >>broker.log 2>&1
    else
        if [ "$1" = pause ]; then kill -s STOP "$(cat pid)"; else kill -s CONT "$(cat pid)"; fi
    fi
}

waiter=
while read -r verb; do
    case $verb in
        start) launch "$@" ;;
        # A stopped container is started again with the data that it has.
        again) if [ "$kind" = docker ]; then launch docker start --attach "$container"; else launch "$@"; fi ;;
        stop) end TERM ;;
        kill) end KILL ;;
        pause | resume) hold "$verb" ;;
    esac
    echo "$verb"
done
end KILL
[ "$kind" = docker ] && docker rm --force --volumes "$container" >/dev/null 2>&1
cd / && rm -rf "$folder"
