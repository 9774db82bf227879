# A change that the owner of a device does not allow is made elsewhere; where nobody allows it, it stops and says why. The
# earlier content goes on meanwhile.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
service shop/app x1 image app:1
apply shop
wait 10s
expect shop/app on pi-1
fault app:2 owner "the owner of the device does not allow app:2" on pi-1
service shop/app x1 image app:2
apply shop
wait 30s
expect shop/app on pi-2
expect roll shop/app done
fault app:3 owner "the owner of the device does not allow app:3"
mark
service shop/app x1 image app:3
apply shop
wait 30s
expect roll shop/app paused "pi-1: the owner of the device does not allow app:3"
expect roll shop/app paused "pi-2: the owner of the device does not allow app:3"
expect shop/app on pi-2
expect stops 0
