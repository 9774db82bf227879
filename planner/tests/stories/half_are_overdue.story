# Most of the fleet falls silent at once. The device that was heard last does not even count as suspect when the first one
# is lost; it has missed a heartbeat, and that counts.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
device pi-4 arm64 4cpu 4GiB
device pi-5 arm64 4cpu 4GiB
service shop/web x5
apply shop
wait 10s
mark
cut pi-1
wait 1600ms
cut pi-2 pi-3
wait 20s
expect safe mode
expect no note "is started"
