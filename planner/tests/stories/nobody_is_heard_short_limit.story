# A service with a limit of its own that is shorter than the fleet's: while nobody at all is heard it does not count.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
device pi-4 arm64 4cpu 4GiB
service shop/web x4 lost-after 3s
apply shop
wait 10s
mark
cut pi-1 pi-2 pi-3 pi-4
wait 20s
expect safe mode
expect no note "is started"
