# A service that runs everywhere does without the devices whose owners do not want it, and says so.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
fault shop/node owner "the owner of the device does not allow privileged containers" on pi-2
service shop/node global
apply shop
wait 10s
expect shop/node on pi-1
expect note "pi-2: the owner of the device does not allow it"
expect refusal shop/node.1 pi-2 "does not allow privileged containers"
# It is not tried again and again.
mark
wait 1800s
expect no note "shop/node"
expect starts 0
owner pi-2 allows shop/node
wait 10s
expect shop/node on pi-1 pi-2
