# A successor that was started on another device must leave it again, and only the old copy's device would do: the old
# copy, which is back, goes on, and is changed where it is. Two copies side by side would be the end of it otherwise.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB label zone=a
service shop/web x1 image web:1
apply shop
wait 5s
expect shop/web on pi-1
pulls pi-2 take 20s
power-cut pi-1
service shop/web x1 image web:2 constraint node.labels.zone!=a
apply shop
wait 8s
boot pi-1
wait 1s
label pi-2 zone=a
wait 2m
expect roll shop/web done
expect shop/web on pi-1
expect shop/web.1 does not wait
