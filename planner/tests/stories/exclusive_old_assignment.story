# A device that returns with an old assignment gets no lease before it holds the present one, whatever else it may run.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
service shop/db x1 exclusive 10s
service shop/kv x1 exclusive 10s volume data constraint node.hostname==pi-1
apply shop
wait 20s
expect shop/db on pi-1
expect shop/kv on pi-1
cut pi-1
wait 20s
expect shop/db on pi-2
hears pi-1 after 5s
reconnect pi-1
wait 4s
expect shop/db on pi-2
wait 10s
expect shop/db on pi-2
expect shop/kv on pi-1
