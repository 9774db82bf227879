# An engine that does not answer for long is taken for a loss of what runs on it; a short absence moves nothing.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
service shop/web x1
apply shop
wait 5s
mark
engine pi-1 down
wait 20s
expect starts 0
engine pi-1 up
wait 20s
expect starts 0
engine pi-1 down
wait 32s
expect shop/web on pi-1 pi-2
engine pi-1 up
wait 5s
expect shop/web on pi-2
