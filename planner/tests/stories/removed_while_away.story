# What was deleted while its device was away is stopped when it returns.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
service shop/web x2
apply shop
wait 5s
cut pi-1
wait 2s
remove shop
wait 5s
expect shop/web on pi-1
hub stops
hub starts
mend pi-1
wait 10s
expect shop/web on
