# Another machine that claims a connected device's name is refused; it may have the name when that device is gone.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
service shop/web x2
apply shop
wait 10s
mark
impostor pi-1
expect note "another machine claims the name pi-1"
wait 10s
expect pi-1 up
expect starts 0
power-cut pi-1
wait 10s
expect pi-1 lost
impostor pi-1
expect note "pi-1 is another installation than before"
expect pi-1 up
