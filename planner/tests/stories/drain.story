# A drained device gives up its copies only when they run elsewhere.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
pulls pi-2 take 5s
service shop/web x1
apply shop
wait 10s
expect shop/web on pi-1
drain pi-1
wait 4s
expect shop/web on pi-1
wait 2s
expect shop/web on pi-2
expect shop/web.1 because "pi-1 is drained"
activate pi-1
wait 10s
expect shop/web on pi-2
