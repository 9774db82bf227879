# Killed for memory on a full device: elsewhere. Killed by its own limit: it stays, and is told to raise it.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
service shop/web x1 constraint node.hostname==pi-1
service shop/small x1 memory-limit 64MiB constraint node.hostname==pi-1
apply shop
wait 5s
service shop/web x1
service shop/small x1 memory-limit 64MiB
apply shop
load pi-1 memory=980
fault shop/web memory on pi-1
wait 10s
expect shop/web on pi-2
load pi-1 memory=400
wait 2s
fault shop/small memory on pi-1
wait 10s
expect shop/small.1 waits "its own limit"
expect shop/small.1 because "wanted"
