# More than half the fleet silent at once is taken for a fault of the hub: nothing moves until half are back.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
device pi-4 arm64 4cpu 4GiB
device pi-5 arm64 4cpu 4GiB
service shop/web x5
apply shop
wait 10s
mark
cut pi-1 pi-2 pi-3
wait 20s
expect safe mode
expect starts 0
expect note "3 of 5 devices fell silent at once"
expect shop/web.1 waits "nothing moves"
mend pi-3
wait 5s
# Two of five are less than half: their copies are replaced now.
expect no safe mode
expect shop/web.1 on pi-1 pi-4
mend pi-1 pi-2
wait 5s
expect shop/web runs 5
