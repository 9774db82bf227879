# A device that vanished while the hub was down is replaced after the start grace, not before.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
service shop/web x3
apply shop
wait 10s
mark
hub stops
power-cut pi-2
wait 1m
hub starts
wait 14s
expect pi-2 unheard
expect starts 0
wait 2s
expect pi-2 lost
wait 1s
expect shop/web.2 on pi-1
