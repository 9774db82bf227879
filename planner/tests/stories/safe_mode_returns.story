# Devices behind a line that is mended do not return in the same moment: who is heard a little later finds its copy in place.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
device pi-4 arm64 4cpu 4GiB
service shop/web x3
apply shop
wait 10s
mark
cut pi-2 pi-3 pi-4
wait 20s
expect safe mode
mend pi-2
wait 2s
expect safe mode
mend pi-3 pi-4
wait 10s
expect no safe mode
expect starts 0
