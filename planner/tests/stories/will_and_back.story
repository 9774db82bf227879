# A device that is back within two seconds of its will moves nothing, and a late will of the old connection is ignored.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
service shop/web x3
apply shop
wait 10s
mark
cut pi-2
will pi-2
wait 1.5s
reconnect pi-2
wait 0.5s
expect pi-2 up
old will pi-2
expect pi-2 up
wait 10s
expect starts 0
expect stops 0
expect shop/web.2 on pi-2
