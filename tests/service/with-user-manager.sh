#!/bin/bash
# Runs a command in a real `systemd --user` session, on a machine whose own first process may be anything.
#
#   with-user-manager.sh HOME UID COMMAND...
#
# With JOURNAL=1 the session has a journal of its own, too, which everybody in it may read.
# Needs root, systemd, dbus-daemon, util-linux and a mounted cgroup2. The session lives in namespaces of its own (mounts,
# processes, control groups) and sees the machine's files, but its own /run; nothing of it is left when it ends.
# The exit code is the command's, 70 where the session cannot be had.
set -eu
home=$1 uid=$2
shift 2
export home uid

# A user manager wants a part of the control groups' tree that is its own.
tree=$(findmnt --noheadings --first-only --output TARGET --types cgroup2) || exit 70
group=$tree/rlmd-test-$$
mkdir "$group"
chown "$uid:$uid" "$group" "$group"/cgroup.{procs,subtree_control,threads}
forget() {
    for _ in 1 2 3 4 5; do
        find "$group" -depth -type d -exec rmdir {} + 2>/dev/null && return
        sleep 0.2
    done
}
trap forget EXIT

session() {
    # systemd takes a machine with this directory for one that it runs; the last two are where units get mounts of
    # their own, which root makes at boot elsewhere.
    mount -t tmpfs -o mode=755 tmpfs /run
    mkdir -p /run/systemd/system /run/systemd/{unit-root,mount-rootfs,propagate} "/run/user/$uid"
    mount -t tmpfs -o "mode=700,uid=$uid,gid=$uid" tmpfs "/run/user/$uid"
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    # The bus talks only to users who have a name.
    for file in passwd group; do cp "/etc/$file" "/run/$file"; done
    echo "person:x:$uid:$uid::$home:/bin/sh" >>/run/passwd
    echo "person:x:$uid:" >>/run/group
    for file in passwd group; do mount --bind "/run/$file" "/etc/$file"; done

    if [ "$JOURNAL" = 1 ]; then
        mkdir /run/systemd/journal
        /lib/systemd/systemd-journald 2>/dev/null &
        for _ in {1..100}; do
            chmod -fR a+rX /run/log/journal && test -S /run/systemd/journal/stdout && break
            sleep 0.1
        done
    fi

    export HOME=$home XDG_RUNTIME_DIR=/run/user/$uid DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/$uid/bus
    person=(setpriv --reuid "$uid" --regid "$uid" --clear-groups --inh-caps=-all --bounding-set=-all)
    cd "$home"
    "${person[@]}" /lib/systemd/systemd --user --log-target=null &
    manager=$!
    for _ in {1..100}; do
        state=$("${person[@]}" systemctl --user is-system-running 2>/dev/null || true)
        case $state in running | degraded) break ;; esac
        sleep 0.1
    done
    case $state in
        running | degraded) ;;
        *) echo "the user manager did not come up: ${state:-it does not answer}" >&2; exit 70 ;;
    esac
    result=0
    "${person[@]}" "$@" || result=$?
    "${person[@]}" systemctl --user exit || true
    wait "$manager" || true
    exit "$result"
}

result=0
(
    echo "$BASHPID" >"$group/cgroup.procs"
    exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 home="$home" uid="$uid" \
        JOURNAL="${JOURNAL:-0}" \
        unshare --mount --cgroup --pid --fork --mount-proc --kill-child --propagation private \
        bash -euc "$(declare -f session)"$'\n''session "$@"' session "$@"
) || result=$?
exit "$result"
