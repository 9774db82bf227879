# A copy that keeps failing on one device is tried elsewhere.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
fault shop/web crash "exited with code 1" on pi-1
service shop/web x1
apply shop
wait 20s
expect shop/web on pi-2
expect shop/web.1 because "kept failing on pi-1"
