# A restart of the hub stops and moves nothing.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
service shop/web x3
service shop/db x1 volume data
apply shop
wait 10s
mark
hub stops
wait 1m
hub starts
expect pi-1 unheard
wait 30s
expect pi-1 up
expect starts 0
expect stops 0
expect shop/web good 3
