# A hub that hears nobody after its start takes that for its own fault. Devices that were lost before do not count.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
device pi-4 arm64 4cpu 4GiB
device pi-5 arm64 4cpu 4GiB
service shop/web x5
apply shop
wait 10s
power-cut pi-4
wait 10s
power-cut pi-5
wait 40s
expect pi-5 lost
expect shop/web runs 5
mark
hub stops
hub starts
wait 30s
expect no safe mode
expect starts 0
hub stops
cut pi-1 pi-2
hub starts
wait 30s
expect safe mode
expect starts 0
mend pi-1 pi-2
wait 10s
expect no safe mode
expect starts 0
