# An operator who knows better ends safe mode.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
service shop/web x3
apply shop
wait 10s
power-cut pi-1 pi-2
wait 20s
expect safe mode
expect shop/web on pi-3
confirm-loss
wait 2s
expect no safe mode
expect shop/web on pi-3 pi-3 pi-3
