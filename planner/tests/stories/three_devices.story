# In a fleet of three, two that die at once are taken for a fault of the hub; one after the other are not.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
service shop/web x3
apply shop
wait 10s
power-cut pi-1
wait 40s
expect shop/web runs 3
power-cut pi-2
wait 10s
expect no safe mode
expect shop/web on pi-3 pi-3 pi-3
boot pi-1 pi-2
wait 2m
expect shop/web on pi-1 pi-2 pi-3
power-cut pi-1 pi-2
wait 10s
expect safe mode
expect shop/web on pi-3
