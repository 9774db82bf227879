# What does not start on the device that it is moved back to stays where it is, and is not tried again.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
service shop/web x6
apply shop
wait 10s
cut pi-2
wait 10s
mend pi-2
fault shop/web crash "exited with code 1" on pi-2
wait 30s
expect shop/web on pi-1 pi-1 pi-1 pi-3 pi-3 pi-3
wait 5m
expect shop/web on pi-1 pi-1 pi-1 pi-3 pi-3 pi-3
expect shop/web good 6
