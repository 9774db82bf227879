# The device of a successor is lost while the old copy still runs elsewhere: the old copy goes on, and is changed anew.
device pi-1 arm64 1cpu 4GiB
device pi-2 arm64 4cpu 4GiB
service shop/web x1 image web:1 cpu 0.8 constraint node.hostname==pi-1
apply shop
wait 5s
expect shop/web on pi-1
starts pi-2 take 10s
service shop/web x1 image web:2 cpu 0.8 start-first monitor 1s
apply shop
wait 4s
expect roll shop/web rolling
power-cut pi-2
wait 10s
expect shop/web on pi-1
boot pi-2
wait 1m
expect roll shop/web done
expect shop/web runs 1
expect shop/web good 1
