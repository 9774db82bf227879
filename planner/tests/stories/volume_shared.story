# Services that have the same local volume are one device's: an engine's volumes are its own.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
service shop/backup x1 volume data
service shop/db x1 volume data
service shop/web x3
apply shop
wait 10s
expect shop/backup on pi-1
expect shop/db on pi-1
expect refusal shop/db.1 pi-2 "the local volume is on pi-1"
# One more of them finds the data, although other devices have less to do.
service shop/report x2 volume data
apply shop
wait 10s
expect shop/report on pi-1 pi-1
# The device is lost: they wait for it together, and say so.
power-cut pi-1
wait 10s
expect shop/backup.1 waits "stays on pi-1, where its local volume is"
expect shop/db.1 waits "stays on pi-1, where its local volume is"
service shop/audit x1 volume data
apply shop
wait 2s
expect shop/audit.1 waits "shares the local volume `data`, which is on pi-1"
expect refusal shop/audit.1 pi-2 "the local volume `data`, which another service has too, is on pi-1"
boot pi-1
wait 10s
expect shop/db on pi-1
expect shop/audit on pi-1
# A change leaves them where they are.
restart shop/db
wait 30s
expect shop/db on pi-1
expect roll shop/db done
# Forgotten, its data are given up, and they begin anew, together.
power-cut pi-1
wait 10s
forget pi-1
wait 10s
expect shop/backup on pi-3
expect shop/db on pi-3
expect shop/audit on pi-3
expect shop/report on pi-3 pi-3
