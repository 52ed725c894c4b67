#!/bin/bash
# The first process of a machine, in namespaces of its own (machines.py). What it writes is in memory, and ends with it.
#   machine.sh NAME DIRECTORY FROM:TO...
set -euo pipefail
shopt -s extglob
name=$1 directory=$2
shift 2

# A root of its own: programs as they are here, read-only, and all else new.
mount -t tmpfs -o mode=755 machine "$directory/root"
cd "$directory/root"
mkdir -p dev etc proc tmp run/sshd home var/{lib,log,run,spool,tmp} shared old ".$HOME"
chmod 1777 tmp var/tmp
for path in /*; do
    entry=${path#/}
    if [ -L "$path" ]; then
        cp -P "$path" .
    elif [[ $entry == @(bin|lib*|opt|sbin|srv|sys|usr) ]]; then
        mkdir -p "$entry"
        mount --rbind -o ro "$path" "$entry"
    fi
done
mount --rbind /dev dev
mount -t tmpfs -o mode=1777 memory dev/shm
mount -t proc proc proc
mount --bind "$directory/shared" shared
cp -a /etc/. etc
cp -a /etc/skel/. ".$HOME"
cp "$directory/hosts" etc/hosts
install -d -m 700 ".$HOME/.ssh"
install -m 600 "$directory"/ssh/* ".$HOME/.ssh"
cp "$directory/ssh/id_ed25519.pub" ".$HOME/.ssh/authorized_keys"
for seen in "$@"; do
    mkdir -p ".${seen#*:}"
    mount --bind -o ro "${seen%%:*}" ".${seen#*:}"
done
pivot_root . old
umount -l /old
cd

hostname "$name"
ip link set lo up
rm -f /etc/ssh/ssh_host_*
ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
/usr/sbin/sshd -f /dev/null -h /etc/ssh/ssh_host_ed25519_key -o PermitRootLogin=prohibit-password -o PasswordAuthentication=no \
    -o UsePAM=no -o MaxStartups=100 -o PidFile=none
echo booted
sleep infinity &
wait # and for whatever has lost its parent
