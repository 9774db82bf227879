# An exclusive copy is replaced only when its lease has surely run out.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
service shop/db x1 exclusive 10s
apply shop
wait 20s
expect shop/db on pi-1
cut pi-1
wait 8s
expect pi-1 lost
expect shop/db.1 waits "lease"
expect shop/db on pi-1
wait 3s
expect shop/db on
wait 2s
expect shop/db on pi-2
mend pi-1
wait 10s
expect shop/db on pi-2
