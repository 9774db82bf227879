# Copies are evened out over zones first, then over devices.
device a-1 arm64 4cpu 4GiB label zone=a
device b-1 arm64 4cpu 4GiB label zone=b
device b-2 arm64 4cpu 4GiB label zone=b
device b-3 arm64 4cpu 4GiB label zone=b
service shop/web x4 spread node.labels.zone
apply shop
wait 2s
expect shop/web on a-1 a-1 b-1 b-2
