# A device that is silent for four seconds is lost, and its copies run elsewhere.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
service shop/web x3
apply shop
wait 10s
mark
power-cut pi-2
wait 2s
expect pi-2 up
wait 1.8s
expect pi-2 suspect
expect starts 0
wait 1.2s
expect pi-2 lost
wait 0.5s
expect shop/web.2 on pi-1
expect shop/web.2 because "pi-2 was lost"
expect starts 1
expect stops 0
