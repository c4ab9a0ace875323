#!/bin/bash
# A Ceph RADOS Gateway on one machine, for tests: monitor, manager, one store in memory, gateway. As root, on Debian:
#   apt-get install --no-install-recommends ceph-mon ceph-mgr ceph-osd radosgw ceph-common
# Stop it by the numbers in EMPTY_FOLDER/run/*.pid.
set -euo pipefail
folder=${1:?usage: start_ceph.sh EMPTY_FOLDER GATEWAY_PORT MONITOR_PORT OLD_MONITOR_PORT}
gateway=$2 monitor=$3 old_monitor=$4
cd "$folder"
mkdir mon mgr osd0 run log rgw

cat > ceph.conf <<CONF
[global]
fsid = $(cat /proc/sys/kernel/random/uuid)
mon host = [v2:127.0.0.1:$monitor,v1:127.0.0.1:$old_monitor]
public network = 127.0.0.0/8
cluster network = 127.0.0.0/8
ms bind ipv6 = false
keyring = $folder/keyring
run dir = $folder/run
admin socket = $folder/run/\$name.asok
pid file = $folder/run/\$name.pid
log file = $folder/log/\$name.log
# One copy of everything, on one store.
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
mon max pg per osd = 1000
# A monitor stops where less than 5 % of the disk is free, whatever its size.
mon data avail warn = 2
mon data avail crit = 1
[mon.a]
mon data = $folder/mon
[mgr.a]
mgr data = $folder/mgr
[osd]
osd data = $folder/osd\$id
osd objectstore = memstore
memstore device bytes = 4294967296
[client.rgw.a]
rgw data = $folder/rgw
rgw frontends = beast endpoint=127.0.0.1:$gateway
debug rgw = 0
CONF
export CEPH_ARGS="-c $folder/ceph.conf"

key() {  # NAME CAPABILITY...: the gateway hangs without authentication, so everyone gets a key
    local name=$1
    shift
    ceph-authtool $new "$folder/keyring" --gen-key -n "$name" "$@" > run/keys.txt
    new=
}
new=-C
key mon. --cap mon 'allow *'
key client.admin --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *'
key osd.0 --cap mon 'allow profile osd' --cap mgr 'allow profile osd' --cap osd 'allow *'
key mgr.a --cap mon 'allow profile mgr' --cap osd 'allow *'
key client.rgw.a --cap mon 'allow rw' --cap osd 'allow rwx' --cap mgr 'allow rw'

monmaptool --create --fsid "$(ceph-conf fsid)" --addv a "[v2:127.0.0.1:$monitor,v1:127.0.0.1:$old_monitor]" monmap
ceph-mon -i a --mkfs --monmap monmap --keyring keyring
ceph-mon -i a
ceph-mgr -i a  # without it the gateway waits for its pools for ever
store=$(cat /proc/sys/kernel/random/uuid)
ceph osd new "$store" 0
ceph-osd -i 0 --mkfs --osd-uuid "$store"
ceph-osd -i 0
radosgw -n client.rgw.a
