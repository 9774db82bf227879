# One that fails everywhere is moved a bounded number of times and stays somewhere.
policy moves_per_hour=3
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
device pi-4 arm64 4cpu 4GiB
device pi-5 arm64 4cpu 4GiB
device pi-6 arm64 4cpu 4GiB
fault shop/web crash "exited with code 1"
service shop/web x1
apply shop
wait 10m
expect shop/web.1 waits "as often as is allowed"
