# The line to the hub breaks. The device whose last word is the oldest is silent for too long before the others even
# count as suspect: nothing moves for that, and soon it is plain that all are silent.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
device pi-4 arm64 4cpu 4GiB
service shop/web x4
apply shop
wait 10s
mark
cut pi-1
wait 1600ms
cut pi-2 pi-3 pi-4
wait 20s
expect safe mode
expect no note "is started"
expect shop/web.1 waits "nothing moves"
mend pi-2 pi-3 pi-4
wait 2s
# Now only one is silent. It may be behind the same line and be heard a little later.
expect safe mode
wait 3s
expect no safe mode
expect shop/web runs 5
# A single device is lost as quickly as ever.
mend pi-1
wait 10s
mark
cut pi-4
wait 4300ms
expect pi-4 lost
