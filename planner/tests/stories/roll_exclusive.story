# An exclusive service is changed where it is, never two at once.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
service shop/db x1 exclusive 10s image db:1
apply shop
wait 20s
service shop/db x1 exclusive 10s image db:2
apply shop
wait 20s
expect roll shop/db done
expect shop/db on pi-1
