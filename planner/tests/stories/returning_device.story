# A device that returns after its copy was replaced gives it up: exactly one runs.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
service shop/web x3
apply shop
wait 10s
cut pi-2
wait 10s
expect shop/web.2 on pi-1 pi-2
mend pi-2
wait 2s
expect shop/web.2 on pi-1
expect shop/web runs 3
expect pi-2 up
# How long it was away is told, also where it comes back over a new connection.
mark
power-cut pi-3
wait 20s
boot pi-3
wait 3s
expect pi-3 up
expect note "pi-3 is heard again after 2"
