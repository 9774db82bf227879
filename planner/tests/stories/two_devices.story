# In a fleet of two, one may be lost like anywhere; both at once leave nowhere to move to.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
service shop/web x2
apply shop
wait 10s
power-cut pi-1
wait 6s
expect shop/web on pi-2 pi-2
power-cut pi-2
wait 6s
expect shop/web.1 waits "no device can take it"
boot pi-1 pi-2
wait 5s
expect shop/web runs 2
