# What would become of a device's replicas if it were lost is what becomes of them when it is.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 8GiB
device pi-4 arm64 4cpu 4GiB
service shop/big x1 memory 6GiB
service shop/data x1 volume data constraint node.hostname!=pi-1 constraint node.hostname!=pi-2 constraint node.hostname!=pi-4
service shop/lock x1 exclusive 10s constraint node.hostname!=pi-1 constraint node.hostname!=pi-2
service shop/reader x1 waits-for-device constraint node.hostname==pi-3
service shop/web x7
apply shop
wait 10s
expect shop/big on pi-3
mark
foresee pi-3 lost
wait 1s
expect starts 0
expect foreseen shop/big.1 "no device can take it"
expect foreseen shop/big.1 "pi-4"
expect foreseen shop/data.1 "stays on pi-3, where its local volume is"
expect foreseen shop/reader.1 "waits for pi-3, as its policy says"
power-cut pi-3
wait 30s
expect as foreseen
