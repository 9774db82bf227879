# The user may allow the move; the data stay behind. A device that is forgotten frees it too.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
service shop/cache x1 volume temp volume-may-move
service shop/db x1 volume data
apply shop
wait 10s
expect shop/db on pi-2
power-cut pi-1 
wait 10s
expect shop/cache on pi-3
power-cut pi-2
wait 10s
expect shop/db on
forget pi-2
wait 2s
expect shop/db on pi-3
