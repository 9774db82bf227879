# Constraints, architecture, memory limits, attached devices and generic resources decide who may; each refusal says why.
device pi-1 arm64 4cpu 4GiB label zone=attic attached /dev/video0 runs arm/v7
device pi-2 arm/v7 4cpu 1GiB label zone=cellar no-memory-limits
device pc-1 amd64 8cpu 16GiB engine-label disk=ssd generic camera=1
service shop/attic x1 constraint node.labels.zone==Attic
service shop/notattic x1 constraint node.labels.zone!=attic constraint node.labels.zone!=cellar
service shop/ssd x1 constraint engine.labels.disk==ssd
service shop/old x1 platforms linux/arm/v7 constraint node.hostname!=pi-2
service shop/big x1 memory 8GiB
service shop/cam x2 generic camera=1
service shop/video x1 device /dev/video0
service shop/limit x1 memory-limit 64MiB constraint node.hostname==pi-2
service shop/mixed x1 constraint node.labels.disk==ssd
service shop/turned x1 constraint engine.labels.zone==attic
apply shop
wait 2s
expect shop/attic on pi-1
expect shop/notattic on pc-1
expect shop/ssd on pc-1
expect shop/old on pi-1
expect shop/big on pc-1
expect shop/cam.1 on pc-1
expect shop/cam.2 waits "no device can take it"
expect refusal shop/cam.2 pc-1 "0 of `camera` are free"
expect refusal shop/cam.2 pi-1 "0 of `camera` are free, 1 are wanted"
expect shop/video on pi-1
expect refusal shop/big.1 pi-1 "GiB of memory are free"
expect refusal shop/limit.1 pi-2 "cgroup_enable=memory"
expect refusal shop/limit.1 pi-1 "node.hostname is `pi-1`, wanted == `pi-2`"
# Labels of the device itself and labels given by the hub are easily taken for one another.
expect refusal shop/mixed.1 pc-1 "node.labels.disk is ``, wanted == `ssd`; but engine.labels.disk is `ssd`: is that meant?"
expect refusal shop/turned.1 pi-1 "but node.labels.zone is `attic`: is that meant?"
