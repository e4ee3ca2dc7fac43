#!/bin/sh
# Stands in for systemd in a copy of the machine that has none: starts, stops and restarts xvip as its installed unit says.
unit=/usr/lib/systemd/system/xvip.service
pid_file=/run/xvip.pid
echo "$*" >>/run/systemctl.log

value() {
    sed -n "s/^$1=//p" $unit | tail -n 1
}
# Also false for one that has ended and nobody has asked about.
runs() {
    [ -e $pid_file ] && [ -e "/proc/$(cat $pid_file)/exe" ]
}
start() {
    [ -e "$(value ConditionPathExists)" ] || return 0
    mkdir -p "/run/$(value RuntimeDirectory)" "/var/lib/$(value StateDirectory)" "/var/log/$(value LogsDirectory)"
    umask "$(value UMask)"
    setsid $(value ExecStart) >>/run/xvip.log 2>&1 </dev/null &
    echo $! >$pid_file
}
stop() {
    kill -s "${1#SIG}" "$(cat $pid_file)"
    while runs; do sleep 0.02; done
}

for word in "$@"; do
    case "$word" in
        # Links between files, for which nothing has to run.
        preset) exec /usr/bin/systemctl.real "$@" ;;
        is-enabled) echo enabled && exit 0 ;;
        is-active) runs && echo active && exit 0; echo inactive; exit 3 ;;
        start) runs || start; exit ;;
        stop)
            if runs; then stop TERM; fi
            exit 0 ;;
        restart)
            if runs; then stop "$(value RestartKillSignal)"; fi
            start; exit ;;
    esac
done
