# One copy on every suitable device; its number stays.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pc-1 amd64 4cpu 4GiB
service shop/node global constraint node.platform.arch==arm64
apply shop
wait 2s
expect shop/node on pi-1 pi-2
device pi-3 arm64 4cpu 4GiB
wait 2s
expect shop/node.3 on pi-3
power-cut pi-2
wait 10s
expect shop/node on pi-1 pi-3
expect shop/node.2 waits "waits for pi-2"
boot pi-2
wait 3s
expect shop/node.2 on pi-2
drain pi-3
wait 2s
expect shop/node on pi-1 pi-2
activate pi-3
wait 2s
expect shop/node on pi-1 pi-2 pi-3
refused scale shop/node 2 "cannot be scaled"
