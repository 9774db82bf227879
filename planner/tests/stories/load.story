# A hot or loaded board gets less.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
load pi-1 hot
load pi-2 cpu=950
wait 60s
service shop/web x1
apply shop
wait 2s
expect shop/web on pi-3
