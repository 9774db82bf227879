# An engine keeps a volume after its container: what is deployed again goes back to its data.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
service shop/db x2 volume data
apply shop
wait 10s
expect shop/db.1 on pi-1
expect shop/db.2 on pi-2
remove shop
wait 10s
hub stops
wait 2s
hub starts
wait 5s
# Others have come meanwhile, which would make other devices the better ones.
service crowd/a x2 constraint node.hostname!=pi-3 cpu 1
apply crowd
wait 5s
power-cut pi-2
wait 10s
apply shop
wait 10s
expect shop/db.1 on pi-1
expect shop/db.2 waits "stays on pi-2, where its local volume is"
boot pi-2
wait 10s
expect shop/db.2 on pi-2
# A third has no data anywhere, so it may begin anywhere.
scale shop/db 3
wait 5s
expect shop/db.3 on pi-3
# The same volume under another service's name is the same data.
without shop/db
service shop/postgres x1 volume data
apply shop
wait 20s
expect shop/postgres on pi-1
