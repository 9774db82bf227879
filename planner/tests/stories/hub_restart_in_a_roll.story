# A roll goes on after a restart of the hub.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
service shop/web x3 image web:1
apply shop
wait 10s
service shop/web x3 image web:2
mark
apply shop
wait 1s
hub stops
wait 5s
hub starts
wait 1m
expect roll shop/web done
expect starts 3
expect shop/web on pi-1 pi-2 pi-3
