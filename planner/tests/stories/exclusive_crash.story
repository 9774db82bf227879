# An exclusive copy that keeps failing is moved too, stop first, however late its device hears of it.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
hears pi-1 after 2s
fault shop/db crash "exited with code 1" on pi-1
service shop/db x1 exclusive 10s
apply shop
wait 30s
expect shop/db on pi-2
