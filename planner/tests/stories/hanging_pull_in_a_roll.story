# A successor whose pull hangs is prepared on another device; the old copies go on meanwhile.
policy pull_stall=60s
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
service shop/web x2
apply shop
wait 10s
expect shop/web on pi-1 pi-2
fault web:2 hang on pi-1
service shop/web x2 image web:2
apply shop
wait 50s
expect roll shop/web preparing
expect shop/web on pi-1 pi-2
wait 40s
expect roll shop/web done
expect shop/web on pi-2 pi-3
