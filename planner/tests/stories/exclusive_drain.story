# An exclusive copy is moved stop first: it is started elsewhere when its device has said that it stopped.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
service shop/db x1 exclusive 10s
apply shop
wait 20s
drain pi-1
wait 2s
expect shop/db on pi-2
expect pi-1 up
drain pi-2
wait 2s
expect shop/db on pi-2
expect shop/db.1 waits "should leave pi-2"
