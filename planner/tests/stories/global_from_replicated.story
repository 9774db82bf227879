# A service that changes from a number of copies to one everywhere keeps one of them on each device.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
service shop/web x3
apply shop
wait 2s
service shop/web global
apply shop
wait 2s
expect shop/web on pi-1 pi-2
device pi-3 arm64 4cpu 4GiB
wait 2s
expect shop/web on pi-1 pi-2 pi-3
service shop/web x2
apply shop
wait 2s
expect shop/web runs 2
# A device drained in the middle of a restart is served again when it is back.
service shop/web global
apply shop
wait 5s
restart shop/web
wait 0.1s
drain pi-1
wait 5s
expect shop/web on pi-2 pi-3
activate pi-1
wait 30s
expect shop/web on pi-1 pi-2 pi-3
