# A copy leaves a device that no longer satisfies its rules, when another runs it.
device pi-1 arm64 4cpu 4GiB label zone=attic
device pi-2 arm64 4cpu 4GiB
service shop/web x1 constraint node.labels.zone==attic
apply shop
wait 2s
expect shop/web on pi-1
label pi-1 zone=cellar
wait 2s
expect shop/web on pi-1
expect shop/web.1 waits "should leave pi-1"
label pi-2 zone=attic
wait 2s
expect shop/web on pi-2
