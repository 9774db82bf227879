# A copy with a local volume stays with its device and says so.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
service shop/db x1 volume data
apply shop
wait 10s
power-cut pi-1
wait 10s
expect shop/db on
expect shop/db.1 waits "stays on pi-1"
boot pi-1
wait 5s
expect shop/db on pi-1
expect shop/db.1 does not wait
scale shop/db 0
wait 2s
scale shop/db 1
cordon pi-1
wait 2s
activate pi-1
wait 2s
expect shop/db on pi-1
# Drained, it stays and is named.
drain pi-1
wait 5s
expect shop/db on pi-1
expect shop/db.1 waits "stays on pi-1"
