# A copy whose policy says so stays with its lost device and waits.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
service shop/lamp x1 waits-for-device
apply shop
wait 2s
expect shop/lamp on pi-1
mark
power-cut pi-1
wait 1m
expect starts 0
expect shop/lamp.1 waits "waits for pi-1, as its policy says"
boot pi-1
wait 2s
expect shop/lamp on pi-1
# An operator who forgets the device frees the copy.
power-cut pi-1
wait 10s
forget pi-1
wait 2s
expect shop/lamp on pi-2
refused forget pi-2 "is connected"
