# Limits can be set for a label and for a service.
policy lost_after_of=wifi:yes@20s
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB label wifi=yes
device pi-3 arm64 4cpu 4GiB
device pi-4 arm64 4cpu 4GiB
service shop/web x1 constraint node.labels.wifi==yes lost-after 40s
service shop/slow x1 lost-after 30s
apply shop
wait 5s
expect shop/slow on pi-1
power-cut pi-2 
wait 19s
expect pi-2 suspect
power-cut pi-1
wait 5s
expect pi-1 lost
expect pi-2 lost
expect shop/slow on
wait 27s
expect shop/slow on pi-3
