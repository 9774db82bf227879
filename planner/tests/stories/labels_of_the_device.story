# What a device says about itself never satisfies what only the operator may say of it.
device pi-1 arm64 4cpu 4GiB engine-label zone=vault engine-label trust=high engine-label role=manager engine-label node.labels.zone=vault
device pi-2 arm64 4cpu 4GiB label zone=vault
service shop/safe x1 constraint node.labels.zone==vault
service shop/trusted x1 constraint node.labels.trust==high
service shop/manager x1 constraint node.role==manager
service shop/named x1 constraint node.hostname==vault
apply shop
wait 10s
expect shop/safe on pi-2
expect shop/trusted.1 waits "no device can take it"
expect shop/manager.1 waits "no device can take it"
expect shop/named.1 waits "no device can take it"
expect refusal shop/trusted.1 pi-1 "node.labels.trust is ``, wanted == `high`"
expect refusal shop/manager.1 pi-1 "node.role is `worker`, wanted == `manager`"
