# Devices that are drained together do not take what leaves the other; a name that is not known changes nothing.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
service shop/web x3
apply shop
wait 10s
mark
refused drain pi-2 pi-9 pi-8 "there is no device `pi-8` or `pi-9`; nothing was changed"
wait 5s
expect starts 0
drain pi-2 pi-3
wait 10s
expect shop/web on pi-1 pi-1 pi-1
expect starts 2
