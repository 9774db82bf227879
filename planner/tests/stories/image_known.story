# Among equals the device that has the image wins; platforms told by the registry are a rule.
device pc-1 amd64 4cpu 4GiB
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
service a/web x1 image web:1 constraint node.hostname==pi-2
apply a
wait 2s
remove a
image other:1 is for linux/arm64
service shop/web x1 image web:1
service shop/other x1 image other:1
apply shop
wait 2s
expect shop/web on pi-2
expect shop/other on pi-1
expect refusal shop/other.1 pc-1 "it is linux/amd64, and the image is for linux/arm64"
