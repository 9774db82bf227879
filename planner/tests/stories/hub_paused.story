# The time in which the hub could not hear is nobody's silence.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
service shop/web x3
apply shop
wait 10s
mark
hub is paused 10m
wait 30s
expect starts 0
expect no note "lost"
