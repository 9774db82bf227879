# If the old copy is back before its replacement runs, the old one stays.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
pulls pi-1 take 20s
pulls pi-3 take 20s
service shop/web x1 constraint node.hostname!=pi-1
apply shop
service shop/web x1
wait 10s
expect shop/web.1 on pi-2
apply shop
mark
cut pi-2
wait 6s
expect pi-2 lost
expect shop/web.1 on pi-2
mend pi-2
wait 30s
expect shop/web.1 on pi-2
expect starts 0
expect stops 0
