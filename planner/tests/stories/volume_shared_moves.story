# Where all of them may start without their data, they move, and stay together.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
service shop/backup x1 volume data volume-may-move
service shop/db x1 volume data volume-may-move
apply shop
wait 10s
expect shop/backup on pi-1
expect shop/db on pi-1
foresee pi-1 lost
power-cut pi-1
wait 10s
expect as foreseen
expect shop/backup on pi-2
expect shop/db on pi-2
boot pi-1
wait 10s
expect shop/db on pi-2
drain pi-2
wait 10s
expect shop/backup on pi-3
expect shop/db on pi-3
# One of them must keep its data: then none leaves them.
service shop/db x1 volume data
apply shop
wait 5s
drain pi-3
wait 10s
expect shop/db on pi-3
expect shop/db.1 waits "stays on pi-3"
expect shop/backup on pi-3
expect shop/backup.1 waits "shares the local volume `data`, which is on pi-3"
