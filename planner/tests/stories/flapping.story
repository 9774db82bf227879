# A flapping device loses its work once, and does not get it back at once.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
service shop/web x3
apply shop
wait 10s
mark
cut pi-2
wait 30s
mend pi-2
wait 2s
cut pi-2
wait 30s
mend pi-2
wait 2s
cut pi-2
wait 30s
mend pi-2
wait 2s
expect starts 1
expect shop/web runs 3
