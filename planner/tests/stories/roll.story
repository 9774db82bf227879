# A changed service is pulled everywhere before anything stops, then changed one by one.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
service shop/web x3 image web:1
apply shop
wait 10s
pulls pi-3 take 8s
service shop/web x3 image web:2
mark
apply shop
wait 7s
expect roll shop/web preparing
expect stops 0
wait 2s
expect roll shop/web rolling
expect stops 1
expect shop/web good 3
wait 4s
expect stops 1
wait 20s
expect roll shop/web done
expect stops 3
expect starts 3
expect shop/web on pi-1 pi-2 pi-3
